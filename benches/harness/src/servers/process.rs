//! CPU and memory of processes by their name, as `/proc` tells them.

use std::path::Path;

use crate::Result;

/// What processes of one name have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// User and system seconds, those of children that ended included.
    pub(crate) cpu: f64,
    /// Resident memory in MiB. What processes share counts once for each.
    pub(crate) memory: f64,
}

/// The use of all processes whose name is `name`.
///
/// # Errors
///
/// There is none of that name.
pub(crate) fn of(name: &str) -> Result<Used> {
    let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?);
    let mut all = Used::default();
    let mut found = false;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        // One that ended meanwhile is in what its parent tells.
        let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { continue };
        let Some(((_, of), rest)) =
            stat.rsplit_once(") ").and_then(|(head, rest)| Some((head.split_once('(')?, rest)))
        else {
            continue;
        };
        if of != name {
            continue;
        }
        found = true;
        // From the third field on: user and system time are the 14th to the 17th.
        let times = rest.split(' ').skip(11).take(4).filter_map(|field| field.parse::<f64>().ok());
        all.cpu += times.sum::<f64>() / ticks;
        all.memory += resident(&folder);
    }
    if found { Ok(all) } else { Err(format!("no process is called {name}").into()) }
}

fn resident(folder: &Path) -> f64 {
    let process = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
    process.map(crate::usage::resident_mib_of).unwrap_or_default()
}
