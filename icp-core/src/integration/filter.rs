//! stub
use crate::error::Violation;
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize, schemars::JsonSchema, PartialEq)]
/// s
pub struct Filter(serde_json::Value);
/// s
#[derive(Debug)]
pub struct CompiledFilter;
/// s
pub enum Verdict {
    /// s
    Match,
    /// s
    NoMatch {
        /// s
        why: String,
    },
}
impl Filter {
    /// s
    pub fn compile(&self, _at: &str) -> Result<CompiledFilter, Vec<Violation>> {
        Ok(CompiledFilter)
    }
}
impl CompiledFilter {
    /// s
    pub fn matches(&self, _d: &serde_json::Value) -> Verdict {
        Verdict::Match
    }
}
