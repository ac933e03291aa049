//! What happens in three seconds: the frames of each interface by the filter, what is lost, and
//! which CPUs are interrupted.

use httplines::capture::live::{LiveCapture, LiveControl, LiveOpenError, LiveSource};
use httplines::config::{CaptureConfig, DecodeConfig};
use httplines::ids::IfaceNames;
use httplines::sys::counters::FilterCounters;
use httplines::sys::filter::Handshakes;
use httplines::sys::interface::{InterfaceStatistics, Interfaces};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// How long is counted.
pub const WINDOW: Duration = Duration::from_secs(3);

/// Nothing reads the ring, so it is small; what it drops was counted.
const RING_BLOCKS: u32 = 8;
/// So many connections are told apart by the filter in the window.
const CONNECTION_COUNT_MAX: u32 = 1 << 14;

/// What the filter saw on an interface.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It was not tried: the interface cannot deliver frames.
    Nothing,
    /// A privilege is missing, as this sentence says.
    NotAllowed(String),
    /// It failed, as this sentence says.
    Failed(String),
    /// Frames by reason, and the directions of connections.
    Frames {
        /// Frames by reason.
        counters: Box<FilterCounters>,
        /// Connections that began.
        handshakes: Handshakes,
    },
}

/// What was counted on an interface.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Before the window, since the interface was made; `None`: not seen. Those of `any` are the
    /// sums of all interfaces.
    pub before: Option<InterfaceStatistics>,
    /// In the window.
    pub new: Option<InterfaceStatistics>,
    /// Interrupts in the window, each CPU's with its number, if there are lines of them.
    pub interrupts: Option<Vec<(u32, u64)>>,
    /// What the filter saw.
    pub seen: Seen,
}

impl Counted {
    /// Nothing.
    #[cfg(test)]
    pub fn none() -> Counted {
        Counted {
            before: Some(InterfaceStatistics::default()),
            new: Some(InterfaceStatistics::default()),
            interrupts: None,
            seen: Seen::Nothing,
        }
    }

    /// The interface is known to have received nothing.
    pub fn is_only_sending(&self) -> bool {
        self.new.is_some_and(|new| new.rx_frames == 0)
    }

    /// Frames that the kernel drops if no other protocol takes them.
    pub fn unclaimed(&self) -> u64 {
        match &self.seen {
            Seen::Frames { counters, .. } => counters.unclaimed,
            _ => 0,
        }
    }
}

/// The backlogs of all CPUs: /proc/net/softnet_stat, proc(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Frames that found a backlog full.
    pub dropped: u64,
    /// Times that a CPU had to stop although frames were left.
    pub squeezed: u64,
}

impl Backlog {
    /// `None`: /proc is not there.
    fn now() -> Option<Backlog> {
        Some(Backlog::of(&fs::read_to_string("/proc/net/softnet_stat").ok()?))
    }

    fn of(text: &str) -> Backlog {
        let sum = |column: usize| {
            let value =
                |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
            text.lines().filter_map(value).sum()
        };
        Backlog { dropped: sum(1), squeezed: sum(2) }
    }
}

/// An interface to be watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name, or `any`.
    pub name: String,
    /// Its index; 0 for `any`.
    pub ifindex: u32,
    /// It is up and has a carrier, or is `any`.
    pub is_up: bool,
}

/// The backlogs of the machine, before the window and in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlogs {
    /// Since the machine was started.
    pub before: Backlog,
    /// In the window.
    pub new: Backlog,
}

/// Counts for [`WINDOW`]: on each of `watched`, and the backlogs, if these can be read. With
/// `refusal` no filter is loaded, for this reason.
pub fn count(watched: &[Watched], refusal: Option<&Seen>) -> (Vec<Counted>, Option<Backlogs>) {
    let mut links = Interfaces::open().ok();
    let mut statistics = |it: &Watched| links.as_mut()?.statistics(it.ifindex).ok();
    let opened: Vec<_> = watched.iter().map(|it| open(it, refusal)).collect();
    let before: Vec<_> = watched.iter().map(&mut statistics).collect();
    let (interrupts, backlog) = (read_interrupts(), Backlog::now());
    opened.iter().flatten().for_each(|(control, _)| control.open_gate());
    sleep(WINDOW);
    opened.iter().flatten().for_each(|(control, _)| control.shut_gate());
    let backlog_after = Backlog::now();
    let interrupts_after = read_interrupts();
    let mut counted = Vec::new();
    for ((it, before), opened) in watched.iter().zip(before).zip(opened) {
        let after = statistics(it);
        let lines = lines_of(&it.name);
        let of = |text: &str| interrupts_by_cpu(text, &it.name, &lines);
        let new = of(&interrupts_after).zip(of(&interrupts)).map(|(after, before)| {
            let earlier =
                |cpu: u32| before.iter().find(|it| it.0 == cpu).map_or(0, |(_, count)| *count);
            let new = |(cpu, count): (u32, u64)| (cpu, count.saturating_sub(earlier(cpu)));
            after.into_iter().map(new).collect()
        });
        counted.push(Counted {
            new: after.zip(before.as_ref()).map(|(after, before)| difference(&after, before)),
            before: before.map(|before| difference(&before, &[])),
            interrupts: new,
            seen: match opened {
                Ok((control, _sources)) => seen(control),
                Err(seen) => seen,
            },
        });
    }
    let backlogs = backlog.zip(backlog_after).map(|(before, after)| {
        let dropped = after.dropped.saturating_sub(before.dropped);
        let squeezed = after.squeezed.saturating_sub(before.squeezed);
        Backlogs { before, new: Backlog { dropped, squeezed } }
    });
    (counted, backlogs)
}

/// Opens a capture whose frames nobody reads.
fn open(it: &Watched, refusal: Option<&Seen>) -> Result<(LiveControl, Vec<LiveSource>), Seen> {
    if !it.is_up {
        return Err(Seen::Nothing);
    }
    if let Some(refusal) = refusal {
        return Err(refusal.clone());
    }
    let config = CaptureConfig {
        block_count: RING_BLOCKS,
        session_count_max: CONNECTION_COUNT_MAX,
        opening_count_max: CONNECTION_COUNT_MAX,
        ..CaptureConfig::default()
    };
    let names = IfaceNames::default();
    let interfaces = [it.name.clone()];
    let opened = LiveCapture::open(&config, &DecodeConfig::default(), &interfaces, 1, &names);
    opened.map_err(|error: LiveOpenError| match error.is_permission() {
        true => Seen::NotAllowed(error.to_string()),
        false => Seen::Failed(error.to_string()),
    })
}

fn seen(mut control: LiveControl) -> Seen {
    // After the gate is shut, no connection changes any more.
    let handshakes = control.handshakes(CONNECTION_COUNT_MAX as usize).unwrap_or_default();
    match control.counts() {
        Ok(totals) => Seen::Frames { counters: Box::new(totals.filter.clone()), handshakes },
        Err(error) => Seen::Failed(format!("cannot read the filter's counters: {error}")),
    }
}

/// The sums of what each interface has more in `after` than in `before`. An interface that is new
/// had nothing, and one that is gone is left out. The sums have the number 0.
fn difference(
    after: &[InterfaceStatistics],
    before: &[InterfaceStatistics],
) -> InterfaceStatistics {
    let new = |of: fn(&InterfaceStatistics) -> u64| {
        let earlier = |it: &InterfaceStatistics| {
            before.iter().find(|before| before.ifindex == it.ifindex).map_or(0, of)
        };
        after.iter().map(|it| of(it).saturating_sub(earlier(it))).sum()
    };
    InterfaceStatistics {
        ifindex: 0,
        rx_frames: new(|it| it.rx_frames),
        tx_frames: new(|it| it.tx_frames),
        rx_errors: new(|it| it.rx_errors),
        rx_length_errors: new(|it| it.rx_length_errors),
        rx_dropped: new(|it| it.rx_dropped),
        rx_missed: new(|it| it.rx_missed),
    }
}

fn read_interrupts() -> String {
    fs::read_to_string("/proc/interrupts").unwrap_or_default()
}

/// The numbers of the interrupts of interface `name`: those of its device, or, as for virtio, of
/// the device above it.
fn lines_of(name: &str) -> Vec<String> {
    let numbers = |place: &str| {
        let entries = fs::read_dir(format!("/sys/class/net/{name}/{place}")).ok()?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        (!names.is_empty()).then_some(names)
    };
    let found = numbers("device/msi_irqs").or_else(|| numbers("device/../msi_irqs"));
    found.unwrap_or_default()
}

/// The interrupts so far, by the CPUs that the header names (those that are online), of the lines
/// with these numbers, or else of those that name the interface. `None`: there are no such lines.
fn interrupts_by_cpu(text: &str, name: &str, numbers: &[String]) -> Option<Vec<(u32, u64)>> {
    let mut lines = text.lines();
    let cpu = |word: &str| word.strip_prefix("CPU")?.parse::<u32>().ok();
    let cpus: Vec<u32> = lines.next()?.split_whitespace().filter_map(cpu).collect();
    let mut sums: Option<Vec<(u32, u64)>> = None;
    for line in lines {
        let Some((number, rest)) = line.split_once(':') else { continue };
        let is_named = || {
            let words = rest.split(|c: char| c.is_whitespace() || c == '-' || c == '@');
            words.into_iter().any(|word| word == name)
        };
        let is_ours = match numbers {
            [] => is_named(),
            numbers => numbers.iter().any(|it| it == number.trim()),
        };
        if is_ours {
            let sums = sums.get_or_insert_with(|| cpus.iter().map(|cpu| (*cpu, 0)).collect());
            let counts = rest.split_whitespace().map_while(|word| word.parse::<u64>().ok());
            sums.iter_mut().zip(counts).for_each(|((_, sum), count)| *sum += count);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlogs_are_columns_in_hexadecimal() {
        let text = "00000100 0000000a 00000003 00000000\n00000200 00000010 00000001 00000000\n";
        assert_eq!(Backlog::of(text), Backlog { dropped: 26, squeezed: 4 });
        assert_eq!(Backlog::of(""), Backlog::default());
    }

    #[test]
    fn the_frames_of_any_are_the_sums_of_all_interfaces() {
        let of = |ifindex, rx_frames| {
            let rest = InterfaceStatistics::default();
            InterfaceStatistics { ifindex, rx_frames, tx_frames: 1, ..rest }
        };
        let before = [of(1, 100), of(2, 1000), of(3, 5)];
        // 2 is gone, and 4 is new.
        let new = difference(&[of(1, 107), of(3, 5), of(4, 2)], &before);
        assert_eq!((new.ifindex, new.rx_frames, new.tx_frames), (0, 9, 1));
        assert_eq!(difference(&before, &[]).rx_frames, 1105);
    }

    #[test]
    fn interrupts_are_found_by_number_or_by_name() {
        let text = "           CPU0       CPU3\n  24:  5  0  PCI-MSI 0-edge  virtio1-config\n  \
                    25:  7  100  PCI-MSI 1-edge  virtio1-input.0\n 26:  1  2  PCI-MSI 2-edge  \
                    eth0-TxRx-0\nNMI:  9  9  Non-maskable interrupts\n";
        let numbers = ["24".to_string(), "25".to_string()];
        assert_eq!(interrupts_by_cpu(text, "eth0", &numbers), Some(vec![(0, 12), (3, 100)]));
        assert_eq!(interrupts_by_cpu(text, "eth0", &[]), Some(vec![(0, 1), (3, 2)]));
        assert_eq!(interrupts_by_cpu(text, "eth1", &[]), None);
        assert_eq!(interrupts_by_cpu("", "eth1", &[]), None);
    }
}
