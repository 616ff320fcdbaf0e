//! The file with the keys that seal secrets.

use std::io::{ErrorKind, Write};
use std::path::Path;

use icp::secret::{LocalKeys, SystemEntropy};
use icp::{Code, Error, Result};

/// The keys in the file at `path`; a fresh one, written there first, where there is no file.
pub(crate) fn load_or_make(path: &Path) -> Result<LocalKeys> {
    match std::fs::read_to_string(path) {
        Ok(text) => LocalKeys::parse(&text).map_err(|error| {
            let message = format!("the key file `{}`: {}", path.display(), error.message());
            Error::new(Code::KeyUnreadable, message)
        }),
        Err(fault) if fault.kind() == ErrorKind::NotFound => make(path),
        Err(fault) => Err(unusable(path, "cannot be read", fault)),
    }
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
            load_or_make(path)
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
        let made = load_or_make(&path).unwrap();
        let again = load_or_make(&path).unwrap();
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
        let error = load_or_make(&path).unwrap_err();
        assert_eq!(error.code(), Code::KeyUnreadable);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
        assert_eq!(load_or_make(folder.path()).unwrap_err().code(), Code::KeyUnreadable);
    }
}
