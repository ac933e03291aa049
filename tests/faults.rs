//! Faults of disks, readers and machines, on real files and processes. Whatever happens, the
//! capture goes on, whole lines are dropped and counted, no line is torn, writing resumes by
//! itself, and the sums hold.

/// Makes a site, or ends the test as skipped.
macro_rules! site {
    ($made:expr) => {
        match $made {
            Ok(site) => site,
            Err(reason) => crate::support::skip!(reason),
        }
    };
}

mod disks;
mod machines;
mod readers;
mod rotation;
