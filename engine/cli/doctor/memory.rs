//! Whether the rings fit into memory.

use super::row::{Check, Row, percent};
use httplines::config::Config;
use httplines::sys::memory;

/// The smallest ring that can be asked for, in MiB.
const RING_MIB_MIN: u64 = 2;

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    ring_mib: u64,
    shard_count: u64,
    interface_count: u64,
    available_mib: Option<u64>,
}

/// Asks the kernel. A run has a ring for each shard on each of `interface_count` interfaces.
pub fn gather(config: &Config, interface_count: usize) -> Facts {
    let capture = &config.capture;
    Facts {
        ring_mib: (u64::from(capture.block_bytes) * u64::from(capture.block_count)) >> 20,
        shard_count: config.shard_count.into(),
        interface_count: interface_count.max(1) as u64,
        available_mib: memory::available_bytes().map(|bytes| bytes >> 20),
    }
}

/// The row.
pub fn judge(facts: &Facts) -> Row {
    let Facts { ring_mib, shard_count, interface_count, .. } = *facts;
    let ring_count = shard_count * interface_count;
    let needed_mib = ring_mib * ring_count;
    let sum = format!(
        "{needed_mib} MiB (shards: {shard_count}, interfaces: {interface_count}, each ring: \
         {ring_mib} MiB)"
    );
    let Some(available_mib) = facts.available_mib else {
        return Row::note(Check::Rings, format!("{sum}; how much is free is not seen"));
    };
    let share = percent(needed_mib, available_mib);
    let finding = format!("{sum}, {share}% of the {available_mib} MiB that are free");
    // A quarter of it leaves space for connections and the page cache.
    let fitting_mib = (available_mib / 4 / ring_count).max(RING_MIB_MIN);
    let smaller = format!("httplines -B {} ..., or fewer --shards", fitting_mib << 10);
    // Rings that take more than seven eighths are refused at the start.
    match needed_mib * 8 {
        eighths if eighths > available_mib * 7 => {
            Row::wrong(Check::Rings, format!("{finding}: a run refuses to start")).advise(smaller)
        }
        eighths if eighths > available_mib * 4 => Row::note(Check::Rings, finding).advise(smaller),
        _ => Row::ok(Check::Rings, finding),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict::{Note, Ok, Wrong};
    use super::super::tests::said;
    use super::*;

    #[test]
    fn rings_are_compared_with_what_is_free() {
        let facts = |available_mib| Facts {
            ring_mib: 64,
            shard_count: 4,
            interface_count: 2,
            available_mib,
        };
        let rows = |available_mib| [judge(&facts(available_mib))];
        said(&rows(Some(4096)), Check::Rings, Ok, "512 MiB (shards: 4, interfaces: 2");
        said(&rows(Some(1000)), Check::Rings, Note, "51% of the 1000 MiB");
        said(&rows(Some(1000)), Check::Rings, Note, "httplines -B 31744");
        said(&rows(Some(586)), Check::Rings, Note, "");
        said(&rows(Some(585)), Check::Rings, Wrong, "refuses to start");
        said(&rows(Some(1)), Check::Rings, Wrong, "httplines -B 2048");
        said(&rows(None), Check::Rings, Note, "not seen");
    }
}
