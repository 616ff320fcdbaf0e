//! Many entries at once: files that become the entries of a table, and back.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rows::{Problems, Row};
use super::{Format, LookupEntry, LookupLimits, LookupSpec, RowProblem};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Draft, Expect, Resource, Resources, Spec};

/// A file of entries for a table.
#[derive(Clone, Copy, Debug)]
#[must_use = "an import is handed to the resources"]
pub struct Import<'a> {
    /// The file, of at most four times the bytes a table may have.
    pub data: &'a [u8],
    /// What it is written in.
    pub format: Format,
    /// What becomes of entries that it does not name.
    pub mode: ImportMode,
    /// Only tells what would become of it.
    pub validate_only: bool,
}

/// What becomes of the entries of a table that a file does not name.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// They stay. An entry with the unit and key of a row is replaced as a whole.
    #[default]
    Merge,
    /// They go.
    Replace,
}

/// What became of a file of entries.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// Whether the table is as the file says now: not where a row is bad, nor where it was only
    /// to be validated.
    pub applied: bool,
    /// How many rows are fine.
    pub rows: usize,
    /// How many entries the file adds.
    pub added: usize,
    /// How many entries it changes.
    pub changed: usize,
    /// How many entries it takes away.
    pub removed: usize,
    /// How many of its rows are entries already.
    pub unchanged: usize,
    /// What is wrong with it, by line; at most 1,000.
    pub problems: Vec<RowProblem>,
    /// How many problems there are beside those.
    pub more_problems: usize,
}

impl ImportReport {
    /// The report, where nothing is wrong with the file.
    ///
    /// # Errors
    ///
    /// [`Code::LookupImportInvalid`] with every problem that is told, at `/lines/<line>/<column>`.
    pub fn into_result(self) -> Result<Self> {
        if self.problems.is_empty() {
            return Ok(self);
        }
        let violation = |problem: RowProblem| {
            let pointer = match (problem.line, problem.column.as_str()) {
                (0, _) => String::new(),
                (line, "") => format!("/lines/{line}"),
                (line, column) => format!("/lines/{line}/{}", crate::resource::escape(column)),
            };
            Violation::new(pointer, problem.code, problem.message)
        };
        let violations = self.problems.into_iter().map(violation).collect();
        Err(Error::violations(Code::LookupImportInvalid, violations))
    }
}

impl Resources {
    /// Makes the rows of a file entries of a table: all of them, or none where anything is wrong
    /// with one. A file that changes nothing is not written.
    ///
    /// With [`Expect::Present`] the file is applied to the table as it is at the moment of the
    /// write.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], [`Code::BodyTooLarge`], [`Code::RevisionConflict`] for another
    /// revision than was expected, and those of the store. What is wrong with rows is told by the
    /// report.
    pub async fn import_lookup(
        &self,
        org: &OrgId,
        id: &ResourceId,
        import: Import<'_>,
        expect: Expect,
        actor: &Actor,
    ) -> Result<ImportReport> {
        let limits = self.services().lookups;
        let rows = limits.read(import)?;
        loop {
            let table = self.get_typed::<LookupSpec>(org, id).await?;
            if let Expect::Revision(wanted) = expect
                && wanted != table.revision
            {
                let message = format!("the table has revision {} by now", table.revision);
                return Err(Error::new(Code::RevisionConflict, message));
            }
            let (entries, mut report) = plan(&table.spec.entries, &rows, import.mode, limits);
            if import.validate_only || !report.problems.is_empty() {
                return Ok(report);
            }
            report.applied = true;
            if entries == table.spec.entries {
                return Ok(report);
            }
            let found = Expect::Revision(table.revision);
            let draft = draft(table, entries)?;
            match self.replace(org, LookupSpec::KIND, id, draft, found, actor).await {
                Err(error) if error.code() == Code::RevisionConflict => {}
                other => return other.map(|_| report),
            }
        }
    }

    /// The entries of a table as a file that can be imported.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], and those of the store.
    pub async fn export_lookup(
        &self,
        org: &OrgId,
        id: &ResourceId,
        format: Format,
        only_active: bool,
    ) -> Result<Vec<u8>> {
        let table = self.get_typed::<LookupSpec>(org, id).await?;
        format.write(table.spec.entries.iter().filter(|entry| entry.active || !only_active))
    }
}

/// The rows of a file, with what is wrong with it.
type Read = (Vec<Row>, Problems);

impl LookupLimits {
    /// The largest file of entries, in bytes.
    #[must_use]
    pub fn file_bytes(self) -> usize {
        self.bytes.saturating_mul(4)
    }

    fn read(self, import: Import<'_>) -> Result<Read> {
        let (bytes, most) = (import.data.len(), self.file_bytes());
        if bytes > most {
            let message = format!("the file has {bytes} bytes, at most {most} are taken; split it");
            return Err(Error::new(Code::BodyTooLarge, message));
        }
        let mut problems = Problems::default();
        let rows = import.format.read(import.data, self.entries, &mut problems);
        Ok((rows, problems))
    }
}

fn draft(table: Resource<LookupSpec>, entries: Vec<LookupEntry>) -> Result<Draft> {
    let spec = serde_json::to_value(LookupSpec { entries, ..table.spec }).map_err(|error| {
        Error::new(Code::Internal, "the table has no json form").caused_by(error)
    })?;
    Ok(Draft { id: None, name: table.name, labels: table.labels, spec })
}

/// The entries that the table would have, and what that changes.
fn plan(
    present: &[LookupEntry],
    (rows, problems): &Read,
    mode: ImportMode,
    limits: LookupLimits,
) -> (Vec<LookupEntry>, ImportReport) {
    let mut report = ImportReport { rows: rows.len(), ..ImportReport::default() };
    let mut left: HashMap<_, _> =
        present.iter().enumerate().map(|(at, entry)| (entry.place(), at)).collect();
    let mut kept = match mode {
        ImportMode::Merge => present.to_vec(),
        ImportMode::Replace => Vec::new(),
    };
    for Row { entry, .. } in rows {
        let before = left.remove(&entry.place());
        match before.map(|at| present[at] == *entry) {
            None => report.added += 1,
            Some(true) => report.unchanged += 1,
            Some(false) => report.changed += 1,
        }
        match (mode, before) {
            (ImportMode::Merge, Some(at)) => kept[at] = entry.clone(),
            (ImportMode::Merge, None) | (ImportMode::Replace, _) => kept.push(entry.clone()),
        }
    }
    if mode == ImportMode::Replace {
        report.removed = left.len();
    }
    report.problems.clone_from(&problems.list);
    report.more_problems = problems.more;
    if problems.is_empty()
        && let Some(whole) = limits.check(&kept)
    {
        let (column, code, message) = (String::new(), whole.code, whole.message);
        report.problems.push(RowProblem { line: 0, column, code, message });
    }
    (kept, report)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(text: &str) -> Vec<LookupEntry> {
        let entry = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap();
            serde_json::from_value(json!({"key": key, "value": value})).unwrap()
        };
        text.split_whitespace().map(entry).collect()
    }

    fn applied(present: &str, file: &str, mode: ImportMode) -> (String, [usize; 4]) {
        let file = format!("key,value\n{}", file.replace('=', ",").replace(' ', "\n"));
        let import =
            Import { data: file.as_bytes(), format: Format::Csv, mode, validate_only: false };
        let limits = LookupLimits::default();
        let rows = limits.read(import).unwrap();
        let (entries, report) = plan(&table(present), &rows, mode, limits);
        assert!(report.problems.is_empty(), "{report:?}");
        let show = |entry: &LookupEntry| format!("{}={}", entry.key, entry.value.as_str().unwrap());
        let entries: Vec<_> = entries.iter().map(show).collect();
        let counts = [report.added, report.changed, report.removed, report.unchanged];
        (entries.join(" "), counts)
    }

    #[test]
    fn merging_keeps_places_and_replacing_takes_those_of_the_file() {
        use ImportMode::{Merge, Replace};
        for (present, file, mode, entries, counts) in [
            ("a=1 b=2 c=3", "d=4 b=5 c=3", Merge, "a=1 b=5 c=3 d=4", [1, 1, 0, 1]),
            ("a=1 b=2 c=3", "d=4 b=5 c=3", Replace, "d=4 b=5 c=3", [1, 1, 1, 1]),
            ("a=1 b=2", "b=2 a=1", Merge, "a=1 b=2", [0, 0, 0, 2]),
            ("a=1 b=2", "", Merge, "a=1 b=2", [0, 0, 0, 0]),
            ("a=1 b=2", "", Replace, "", [0, 0, 2, 0]),
            ("", "a=1", Merge, "a=1", [1, 0, 0, 0]),
        ] {
            assert_eq!(applied(present, file, mode), (entries.into(), counts), "{file} {mode:?}");
        }
    }

    #[test]
    fn the_limits_hold_for_what_would_be_there() {
        let limits = LookupLimits { entries: 2, ..LookupLimits::default() };
        let import = |data| Import {
            data,
            format: Format::Csv,
            mode: ImportMode::Merge,
            validate_only: false,
        };
        let rows = limits.read(import(b"key,value\nc,3\n".as_slice())).unwrap();
        let (_, report) = plan(&table("a=1 b=2"), &rows, ImportMode::Merge, limits);
        let told: Vec<_> = report.problems.iter().map(|p| (p.line, p.code.as_str())).collect();
        assert_eq!(told, [(0, "too_many")]);
        let (_, report) = plan(&table("a=1 b=2"), &rows, ImportMode::Replace, limits);
        assert_eq!((report.problems.len(), report.removed), (0, 2));
        let small = LookupLimits { entries: 2, bytes: 2, ..LookupLimits::default() };
        assert_eq!(small.read(import(&[b'a'; 9])).unwrap_err().code(), Code::BodyTooLarge);
    }
}
