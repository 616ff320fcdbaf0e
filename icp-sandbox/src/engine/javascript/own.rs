//! Scripts of our own: what prepares runtimes for programs.

use std::cell::OnceCell;

use icp_core::transform::TransformError;

use super::bytecode::Bytecode;
use super::compiler;

/// The scripts, each compiled when it is first wanted.
#[derive(Default)]
pub(super) struct Own {
    prelude: OnceCell<Bytecode>,
    helpers: OnceCell<Bytecode>,
    http: OnceCell<Bytecode>,
}

impl Own {
    /// What every runtime begins with.
    pub(super) fn prelude(&self) -> Result<&Bytecode, TransformError> {
        compiled(&self.prelude, include_str!("prelude.js"))
    }

    /// The functions that scripts of other products expect.
    pub(super) fn helpers(&self) -> Result<&Bytecode, TransformError> {
        compiled(&self.helpers, include_str!("helpers.js"))
    }

    /// What sends requests.
    pub(super) fn http(&self) -> Result<&Bytecode, TransformError> {
        compiled(&self.http, include_str!("http.js"))
    }
}

fn compiled<'a>(
    cell: &'a OnceCell<Bytecode>,
    source: &str,
) -> Result<&'a Bytecode, TransformError> {
    match cell.get() {
        Some(code) => Ok(code),
        None => {
            let code = compiler::own(source)?;
            Ok(cell.get_or_init(|| code))
        }
    }
}
