//! The file with the keys that seal secrets.

use std::io::{ErrorKind, Write};
use std::path::Path;

use icp::access::OrganizationSpec;
use icp::resource::Spec;
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store::Store;
use icp::{Code, Error, Result};

/// The keys in the file at `path`; `None` where there is no file.
pub(crate) fn load(path: &Path) -> Result<Option<LocalKeys>> {
    match std::fs::read_to_string(path) {
        Ok(text) => LocalKeys::parse(&text).map(Some).map_err(|error| {
            let message = format!("the key file `{}`: {}", path.display(), error.message());
            Error::new(Code::KeyUnreadable, message)
        }),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(unusable(path, "cannot be read", fault)),
    }
}

/// A fresh key, written to `path` first, for a store that holds nothing yet: with another key
/// nothing that is sealed in one that does could be opened.
pub(crate) async fn make_for(store: &dyn Store, path: &Path) -> Result<LocalKeys> {
    if store.resources_of_all(OrganizationSpec::KIND, None, 1).await?.is_empty() {
        return make(path);
    }
    // Another server may have made the file since it was looked for.
    load(path)?.ok_or_else(|| {
        let message = format!(
            "the key file `{}` is missing, and the store has organizations whose secrets are \
             sealed with it; put the file back, or set `key_file` to where it is",
            path.display()
        );
        Error::new(Code::KeyUnreadable, message)
    })
}

/// The file appears whole or not at all, and never over one that another server made meanwhile.
fn make(path: &Path) -> Result<LocalKeys> {
    let keys = LocalKeys::generate("k1", &SystemEntropy)?;
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = write(&draft, keys.to_text().expose());
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    let _ = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(keys),
        Err(fault) if fault.kind() == ErrorKind::AlreadyExists && path.exists() => {
            load(path)?.map_or_else(|| make(path), Ok)
        }
        Err(fault) => Err(unusable(path, "cannot be made; check its directory", fault)),
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn unusable(path: &Path, what: &str, fault: std::io::Error) -> Error {
    let message = format!("the key file `{}` {what}", path.display());
    Error::new(Code::KeyUnreadable, message).caused_by(fault)
}

#[cfg(test)]
mod tests {
    use icp::secret::KeyProvider;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("icp.key");
        assert!(load(&path).unwrap().is_none());
        let made = make(&path).unwrap();
        let again = make(&path).unwrap();
        let loaded = load(&path).unwrap().unwrap();
        assert_eq!(made.current().unwrap(), loaded.current().unwrap());
        assert_eq!(made.current().unwrap(), again.current().unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("icp.key");
        std::fs::write(&path, "nonsense").unwrap();
        let error = load(&path).unwrap_err();
        assert_eq!(error.code(), Code::KeyUnreadable);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
        assert_eq!(load(folder.path()).unwrap_err().code(), Code::KeyUnreadable);
    }
}
