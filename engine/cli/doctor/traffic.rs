//! The traffic of three seconds: whether there will be lines.

use super::row::{Check, Row, percent, quoted};
use super::window::{Backlogs, Counted, Seen};
use crate::cli::numbers::grouped;
use httplines::sys::counters::{FilterCounters, Reason};
use httplines::sys::filter::Handshakes;

/// So many connections of which one end is missing are no accident.
const ONE_END_MIN: u64 = 3;

/// Where a CPU takes frames, unless it is set: net/core/dev.c.
const BUDGET_DEFAULT: u64 = 300;
const BACKLOG_DEFAULT: u64 = 1000;

/// The rows of interface `name`.
pub fn judge(name: &str, counted: &Counted) -> Vec<Row> {
    match &counted.seen {
        Seen::Nothing => Vec::new(),
        Seen::NotAllowed(missing) => vec![unseen(name, counted, missing)],
        Seen::Failed(sentence) => vec![Row::wrong(Check::Traffic, sentence)],
        Seen::Frames { counters, handshakes } => {
            vec![seen(name, counted, counters), directions(name, counted, *handshakes)]
        }
    }
}

fn unseen(name: &str, counted: &Counted, missing: &str) -> Row {
    let frames = counted.new.map_or("frames are not counted here".to_string(), |new| {
        let (received, sent) = (grouped(new.rx_frames), grouped(new.tx_frames));
        format!("{received} frames received and {sent} sent in 3 s")
    });
    Row::note(
        Check::Traffic,
        format!("{name}: {frames}; what they are is not seen without {missing}"),
    )
    .advise(format!("sudo httplines doctor -i {}", quoted(name)))
}

/// The frames of a kind.
struct Kinds {
    http: u64,
    tls: u64,
    opaque: u64,
    opening: u64,
}

impl Kinds {
    fn of(counters: &FilterCounters) -> Kinds {
        let sum = |reasons: &[Reason]| reasons.iter().map(|it| counters.of(*it)).sum();
        Kinds {
            http: sum(&[Reason::Session, Reason::Elided, Reason::Admitted, Reason::BodyAck]),
            tls: sum(&[Reason::Tls, Reason::TlsWanted]),
            opaque: sum(&[Reason::Tunnel, Reason::TooDeep, Reason::Unparsed, Reason::Fragment]),
            opening: sum(&[Reason::Opening]),
        }
    }
}

fn seen(name: &str, counted: &Counted, counters: &FilterCounters) -> Row {
    let (offered, kinds) = (counters.offered(), Kinds::of(counters));
    let count = grouped(offered);
    if offered == 0 {
        return Row::note(Check::Traffic, format!("{name}: no frame in 3 s")).advise(format!(
            "is the mirror port on, and {name} the right one? httplines -D; tcpdump -i {}",
            quoted(name)
        ));
    }
    let share = |part: u64| percent(part, offered);
    if kinds.http > 0 {
        let tls = match share(kinds.tls) {
            0 => String::new(),
            tls => format!(", {tls}% TLS"),
        };
        let http = share(kinds.http);
        let finding = format!("{name}: {count} frames in 3 s, {http}% HTTP{tls}");
        return Row::ok(Check::Traffic, finding);
    }
    if kinds.tls > 0 {
        let tls = share(kinds.tls);
        return Row::wrong(
            Check::Traffic,
            format!("{name}: {count} frames in 3 s, {tls}% TLS and no HTTP: it cannot be read"),
        )
        .advise("capture behind the proxy that decrypts it: lo, or the inner interface");
    }
    if kinds.opaque > 0 {
        let opaque = share(kinds.opaque);
        return Row::note(
            Check::Traffic,
            format!(
                "{name}: {count} frames in 3 s, {opaque}% in tunnels or fragments, which only a \
                 run looks into"
            ),
        )
        .advise(format!("httplines -i {}", quoted(name)));
    }
    let what = kind_of_rest(counters, &kinds);
    let row = Row::note(Check::Traffic, format!("{name}: {count} frames in 3 s, no HTTP: {what}"));
    match counted.is_only_sending() {
        true => row.advise("all were sent by this host: is the mirror port on?"),
        false => row.advise(format!("tcpdump -nn -c 20 -i {} shows what they are", quoted(name))),
    }
}

/// Most of the frames that are neither HTTP nor TLS.
fn kind_of_rest(counters: &FilterCounters, kinds: &Kinds) -> &'static str {
    let quic = counters.of(Reason::QuicInitial) + counters.of(Reason::Quic);
    let rest = [
        (counters.of(Reason::NotIp), "most are not IP"),
        (counters.of(Reason::NotTcp), "most are not TCP"),
        (quic, "most are QUIC (HTTP/3 is encrypted, and not read)"),
        (counters.of(Reason::NoPayload), "most have no data"),
        (counters.of(Reason::Other), "most are of another protocol"),
        (kinds.opening, "connections began, and sent nothing that is HTTP"),
    ];
    rest.into_iter().max_by_key(|(count, _)| *count).map_or("", |(_, what)| what)
}

fn directions(name: &str, counted: &Counted, handshakes: Handshakes) -> Row {
    let Handshakes { of_both_ends, of_one_end } = handshakes;
    let count = of_both_ends + of_one_end;
    let check = Check::Directions;
    let advice = "mirror both directions: rx and tx of the port, on the switch";
    if count == 0 {
        let finding = format!("{name}: not seen: no connection began and sent data in 3 s");
        return Row::note(check, finding).advise("again while there is traffic");
    }
    if of_both_ends == 0 && count >= ONE_END_MIN {
        let finding = format!(
            "{name}: of all {} connections that began, only one direction is seen",
            grouped(count)
        );
        let row = Row::wrong(check, finding);
        return match counted.is_only_sending() {
            false => row.advise(advice),
            true => row.advise("nothing is received, only what this host sends is seen"),
        };
    }
    let share = percent(of_both_ends, count);
    let finding = format!("{name}: both are seen of {share}% of {} connections", grouped(count));
    match share {
        ..90 => Row::note(check, finding).advise(advice),
        _ => Row::ok(check, finding),
    }
}

/// The row of the backlogs, if they could be read, with the settings that are visible here.
pub fn backlog(backlogs: Option<Backlogs>, budget: Option<u64>, length: Option<u64>) -> Row {
    let check = Check::Backlog;
    let Some(Backlogs { before, new }) = backlogs else {
        return Row::note(check, "not seen: /proc/net/softnet_stat cannot be read");
    };
    if new.dropped > 0 {
        let wanted = length.unwrap_or(BACKLOG_DEFAULT) * 4;
        let count = grouped(new.dropped);
        return Row::wrong(check, format!("{count} frames found the backlog of a CPU full in 3 s"))
            .advise(format!("sudo sysctl -w net.core.netdev_max_backlog={wanted}"));
    }
    if new.squeezed > 0 {
        let wanted = budget.unwrap_or(BUDGET_DEFAULT) * 2;
        let count = grouped(new.squeezed);
        return Row::note(
            check,
            format!("CPUs ran out of time for receiving {count} times in 3 s"),
        )
        .advise(format!("sudo sysctl -w net.core.netdev_budget={wanted}"));
    }
    let (dropped, squeezed) = (grouped(before.dropped), grouped(before.squeezed));
    Row::ok(check, format!("no drop in 3 s; since boot {dropped} drops, {squeezed} squeezes"))
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict::{Note, Ok, Wrong};
    use super::super::tests::said;
    use super::super::window::Backlog;
    use super::*;
    use httplines::sys::interface::InterfaceStatistics;

    fn frames(counts: &[(Reason, u64)], of_both_ends: u64, of_one_end: u64) -> Vec<Row> {
        let mut counters = FilterCounters::default();
        for (reason, count) in counts {
            counters.frames[*reason as usize] = *count;
        }
        let new = Some(InterfaceStatistics { rx_frames: 9, ..Default::default() });
        let handshakes = Handshakes { of_both_ends, of_one_end };
        let seen = Seen::Frames { counters: Box::new(counters), handshakes };
        judge("eth0", &Counted { new, seen, ..Counted::none() })
    }

    #[test]
    fn what_was_seen_decides_whether_there_will_be_lines() {
        let http = frames(&[(Reason::Session, 80), (Reason::Tls, 20)], 2, 0);
        said(&http, Check::Traffic, Ok, "eth0: 100 frames in 3 s, 80% HTTP, 20% TLS");
        let tls = frames(&[(Reason::Tls, 90), (Reason::Opening, 10)], 2, 0);
        said(&tls, Check::Traffic, Wrong, "90% TLS and no HTTP");
        said(&tls, Check::Traffic, Wrong, "behind the proxy");
        let none = frames(&[], 0, 0);
        said(&none, Check::Traffic, Note, "no frame in 3 s");
        said(&none, Check::Directions, Note, "not seen");
        let tunnels = frames(&[(Reason::Tunnel, 1), (Reason::NotIp, 1)], 0, 0);
        said(&tunnels, Check::Traffic, Note, "50% in tunnels");
        let udp = frames(&[(Reason::NotTcp, 7), (Reason::NotIp, 1)], 0, 0);
        said(&udp, Check::Traffic, Note, "no HTTP: most are not TCP");
        let quic = [(Reason::NotTcp, 7), (Reason::QuicInitial, 2), (Reason::Quic, 6)];
        said(&frames(&quic, 0, 0), Check::Traffic, Note, "no HTTP: most are QUIC");
    }

    #[test]
    fn a_direction_may_be_missing() {
        let of = |both, one| frames(&[(Reason::Session, 1)], both, one);
        said(&of(0, 3), Check::Directions, Wrong, "only one direction is seen");
        said(&of(0, 3), Check::Directions, Wrong, "mirror both directions");
        said(&of(0, 2), Check::Directions, Note, "0% of 2 connections");
        said(&of(8, 2), Check::Directions, Note, "80% of 10");
        said(&of(95, 5), Check::Directions, Ok, "95% of 100");
    }

    #[test]
    fn what_could_not_be_seen_is_said() {
        let new = Some(InterfaceStatistics { rx_frames: 1200, tx_frames: 3, ..Default::default() });
        let of = |seen| judge("eth0", &Counted { new, seen, ..Counted::none() });
        let rows = of(Seen::NotAllowed("CAP_BPF".into()));
        said(&rows, Check::Traffic, Note, "1,200 frames received and 3 sent");
        said(&rows, Check::Traffic, Note, "not seen without CAP_BPF");
        said(&of(Seen::Failed("no ring".into())), Check::Traffic, Wrong, "no ring");
        assert!(of(Seen::Nothing).is_empty());
        let seen = Seen::NotAllowed("CAP_BPF".into());
        let rows = judge("any", &Counted { new: None, seen, ..Counted::none() });
        said(&rows, Check::Traffic, Note, "any: frames are not counted here; what they are");
    }

    #[test]
    fn only_what_was_counted_shows_that_nothing_is_received() {
        let of = |new: Option<InterfaceStatistics>| {
            let mut counters = FilterCounters::default();
            counters.frames[Reason::NotTcp as usize] = 9;
            let handshakes = Handshakes { of_both_ends: 0, of_one_end: 9 };
            let seen = Seen::Frames { counters: Box::new(counters), handshakes };
            judge("eth0", &Counted { new, seen, ..Counted::none() })
        };
        let sending = InterfaceStatistics { tx_frames: 9, ..Default::default() };
        said(&of(Some(sending)), Check::Traffic, Note, "all were sent by this host");
        said(&of(Some(sending)), Check::Directions, Wrong, "nothing is received");
        let both = InterfaceStatistics { rx_frames: 9, ..sending };
        for new in [None, Some(both)] {
            said(&of(new), Check::Traffic, Note, "tcpdump -nn");
            said(&of(new), Check::Directions, Wrong, "mirror both directions");
        }
    }

    #[test]
    fn a_full_backlog_says_what_to_raise() {
        let (none, some) = (Backlog::default(), Backlog { dropped: 5, squeezed: 0 });
        let backlog =
            |before, new, length| [super::backlog(Some(Backlogs { before, new }), None, length)];
        let drops = backlog(none, some, Some(2000));
        said(&drops, Check::Backlog, Wrong, "netdev_max_backlog=8000");
        let squeezed = Backlog { dropped: 0, squeezed: 2 };
        said(&backlog(none, squeezed, None), Check::Backlog, Note, "netdev_budget=600");
        said(&backlog(some, none, None), Check::Backlog, Ok, "since boot 5 drops");
        let unseen = [super::backlog(None, None, None)];
        said(&unseen, Check::Backlog, Note, "softnet_stat cannot be read");
    }
}
