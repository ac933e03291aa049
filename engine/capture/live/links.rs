//! [`Links`]: outages of the captured interfaces, and what was lost before our sockets.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::totals::{InterfaceState, LiveTotals};
use crate::sys::interface::{Interface, InterfaceCounters, Interfaces};

/// Watches the captured interfaces. Nothing is opened after the start.
#[derive(Debug)]
pub(super) struct Links {
    interfaces: Interfaces,
    softnet: Softnet,
    softnet_seen: u64,
    /// In the order of the command line.
    links: Vec<Link>,
    /// The indices of ifb devices.
    ifbs: Vec<u32>,
    /// A failure was reported.
    has_failed: bool,
}

/// One of the captured interfaces, or all of them.
#[derive(Debug)]
struct Link {
    /// As the user wrote it.
    name: String,
    /// 0 means all interfaces.
    ifindex: u32,
    /// When the current outage began.
    outage: Option<Instant>,
    /// The outages so far.
    outage_count: u64,
    /// The counters at the last look, by ascending index.
    seen: Vec<InterfaceCounters>,
}

/// Frames that an interface has dropped since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drops {
    rx_dropped: u64,
    rx_missed: u64,
    /// Dropped by an ifb device: it drops what it cannot send on, after we saw it.
    by_ifb: u64,
}

impl Links {
    /// Watches the interfaces of these names and indices. `present` are all that exist now.
    pub fn new<'a>(
        interfaces: Interfaces,
        watched: impl Iterator<Item = (&'a str, u32)>,
        present: &[Interface],
    ) -> Links {
        let link = |(name, ifindex): (&str, u32)| Link {
            name: name.to_string(),
            ifindex,
            outage: None,
            outage_count: 0,
            seen: Vec::new(),
        };
        let softnet = Softnet::open();
        let mut links = Links {
            interfaces,
            softnet_seen: softnet.dropped(),
            softnet,
            links: watched.map(link).collect(),
            ifbs: Vec::new(),
            has_failed: false,
        };
        links.update(present);
        // Later counts start from the current ones.
        let mut unused = LiveTotals::default();
        if let Err(error) = links.count(&mut unused) {
            links.fail(&error);
        }
        links
    }

    /// Reports outages that began or ended since the last look, and adds what was lost since then
    /// to `totals`.
    pub fn look(&mut self, totals: &mut LiveTotals) {
        let looked = self.interfaces.changes().map(|changed| self.update(&changed));
        for (link, interface) in self.links.iter().zip(&mut totals.interfaces) {
            interface.outages = link.outage_count;
            if interface.state != InterfaceState::Gone {
                interface.state = link.state();
            }
        }
        if let Err(error) = looked.and_then(|()| self.count(totals)) {
            self.fail(&error);
        }
        let softnet = self.softnet.dropped();
        totals.softnet_dropped += softnet.saturating_sub(self.softnet_seen);
        self.softnet_seen = softnet;
    }

    /// Whether one of the interfaces that exist now has one of these names, and is up.
    pub fn is_one_up(&mut self, names: &[&str]) -> bool {
        let present = self.interfaces.list().unwrap_or_default();
        present.iter().any(|interface| interface.is_up && names.contains(&&*interface.name))
    }

    /// Interfaces have become what `changed` says.
    fn update(&mut self, changed: &[Interface]) {
        for interface in changed {
            if interface.is_ifb && !self.ifbs.contains(&interface.ifindex) {
                self.ifbs.push(interface.ifindex);
            }
            for link in self.links.iter_mut().filter(|link| link.ifindex == interface.ifindex) {
                link.update(interface);
            }
        }
    }

    /// Adds what the interfaces have dropped since the last look.
    fn count(&mut self, totals: &mut LiveTotals) -> io::Result<()> {
        for (index, link) in self.links.iter_mut().enumerate() {
            let now = match self.interfaces.counters(link.ifindex) {
                // It is gone, which its sockets report.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                counters => counters?,
            };
            let new = link.drops(now, &self.ifbs);
            totals.dropped_by_ifb += new.by_ifb;
            if let Some(interface) = totals.interfaces.get_mut(index) {
                interface.rx_dropped += new.rx_dropped;
                interface.rx_missed += new.rx_missed;
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        if !self.has_failed {
            self.has_failed = true;
            tracing::warn!(
                "cannot read the state of the interfaces: {error}; outages and losses before our \
                 sockets may be missing from the totals"
            );
        }
    }
}

impl Link {
    /// Reports the begin or the end of an outage.
    fn update(&mut self, interface: &Interface) {
        let name = &self.name;
        match self.outage {
            None if !interface.is_up => {
                tracing::warn!("{name} is down; capturing continues when it is up again");
            }
            None if !interface.has_carrier => {
                tracing::warn!("{name} has no carrier; capturing continues when it is back");
            }
            Some(since) if interface.is_up && interface.has_carrier => {
                let seconds = since.elapsed().as_secs();
                tracing::warn!("{name} is up again after {seconds} s; capturing continues");
                self.outage = None;
                return;
            }
            _ => return,
        }
        self.outage = Some(Instant::now());
        self.outage_count += 1;
    }

    fn state(&self) -> InterfaceState {
        if self.outage.is_some() { InterfaceState::Down } else { InterfaceState::Up }
    }

    /// What was dropped since the last look; a new interface starts at its current counters.
    fn drops(&mut self, now: Vec<InterfaceCounters>, ifbs: &[u32]) -> Drops {
        let mut drops = Drops::default();
        for counters in &now {
            let by_index = |seen: &InterfaceCounters| seen.ifindex.cmp(&counters.ifindex);
            let Ok(at) = self.seen.binary_search_by(by_index) else { continue };
            let before = self.seen[at];
            // A driver may set its counters to zero.
            let rx_dropped = counters.rx_dropped.saturating_sub(before.rx_dropped);
            drops.rx_missed += counters.rx_missed.saturating_sub(before.rx_missed);
            match ifbs.contains(&counters.ifindex) {
                true => drops.by_ifb += rx_dropped,
                false => drops.rx_dropped += rx_dropped,
            }
        }
        self.seen = now;
        drops
    }
}

/// `/proc/net/softnet_stat`, proc(5): frames that found a CPU's backlog full, on all CPUs since
/// boot, in its second column.
#[derive(Debug)]
pub struct Softnet(Option<File>);

impl Softnet {
    /// Opens the file. Without it, nothing is counted.
    pub fn open() -> Softnet {
        Softnet(File::open("/proc/net/softnet_stat").ok())
    }

    /// The sum now.
    pub fn dropped(&self) -> u64 {
        let Softnet(Some(file)) = self else { return 0 };
        let (mut text, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = file.read_at(&mut part, text.len() as u64) {
            text.extend_from_slice(&part[..count]);
        }
        sum_softnet_dropped(&String::from_utf8_lossy(&text))
    }
}

fn sum_softnet_dropped(text: &str) -> u64 {
    let dropped = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    text.lines().filter_map(dropped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softnet_drops_are_the_second_column_in_hexadecimal() {
        let text = "00000100 0000000a 00000000 00000000\n00000200 00000010 00000000 00000000\n";
        assert_eq!(sum_softnet_dropped(text), 26);
        assert_eq!(sum_softnet_dropped(""), 0);
        let softnet = Softnet::open();
        assert!(softnet.dropped() <= softnet.dropped());
    }

    #[test]
    fn losses_are_counted_from_the_first_look_on() {
        let state =
            |ifindex, rx_dropped, rx_missed| InterfaceCounters { ifindex, rx_dropped, rx_missed };
        let mut link = Link {
            name: "any".into(),
            ifindex: 0,
            outage: None,
            outage_count: 0,
            seen: Vec::new(),
        };
        let mut drops = |now| {
            let Drops { rx_dropped, rx_missed, by_ifb } = link.drops(now, &[3]);
            (rx_dropped, rx_missed, by_ifb)
        };
        assert_eq!(drops(vec![state(1, 5, 9)]), (0, 0, 0));
        assert_eq!(drops(vec![state(1, 7, 10), state(2, 100, 100)]), (2, 1, 0));
        assert_eq!(drops(vec![state(2, 101, 100), state(3, 4, 0)]), (1, 0, 0));
        assert_eq!(drops(vec![state(1, 99, 99), state(2, 0, 100), state(3, 9, 0)]), (0, 0, 5));
    }
}
