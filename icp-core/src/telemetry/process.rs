//! What the operating system tells of this process.

/// How many bytes of memory the process holds, where the system tells (Linux).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_its_line() {
        let status = "Name:\ticp\nVmPeak:\t  9000 kB\nVmRSS:\t    2048 kB\nThreads:\t4\n";
        assert_eq!(resident(status), Some(2_097_152));
        for odd in ["", "VmRSS:\t2048\n", "VmRSS:\t-1 kB\n", "VmRSS:\t18446744073709551615 kB\n"] {
            assert_eq!(resident(odd), None, "{odd:?}");
        }
    }
}
