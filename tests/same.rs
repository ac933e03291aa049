//! The same traffic gives the same records: on any number of shards, from a file of any kind, read
//! in blocks of any size, or from standard input, and from whatever moment it is captured. The
//! traffic is generated, with losses, and the corpus of captures next to this repository if it
//! exists.
//!
//! `Cut::check` states what holds for a capture that begins later. `tests/veth.rs` and
//! `tests/elide.rs` check, with root and real traffic, that live captures give the same records as
//! a file: with the filter, without it, and without elision.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap, pcapng};
use crate::support::reported::{ExchangeSpan, Reported, reported_of, reported_of_any};
use crate::support::traffic::{LOSS_DEPENDENT_FIELDS, plan};
use crate::support::{program, records, skip};
use httplines::capture::pcap::open::open_file;
use httplines::capture::{Frame, FrameSource, LinkType, Polled};
use httplines::config::DecodeConfig;
use httplines::decode::{Decoder, SeqNumber, is_worth_joining};
use httplines::ids::{Direction, FlowKey, IfaceNames};
use httplines::time::TimestampNs;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

/// A record, and where and when its exchange took place.
type Placed = (Value, ExchangeSpan);

const START_NS: u64 = 1_700_000_000_000_000_000;
const ETHERNET: u16 = 1;

/// Concurrent connections of generated traffic; one in `loss_step` loses frames.
fn made_up(loss_step: u64) -> Vec<WrittenFrame> {
    let mut runner = TestRunner::deterministic();
    let mut frames = Vec::new();
    for number in 0..60u64 {
        let mut plan = plan().new_tree(&mut runner).expect("a plan").current();
        // Segments that begin a head are recognised as such, and no others are.
        plan.is_tidy = true;
        plan.cuts.iter_mut().for_each(|cut| *cut = (*cut).max(20));
        let mut talk = plan.talk();
        talk.addresses[0].set_port(4000 + number as u16);
        let count = talk.sent.len() as u64;
        let is_lossy = number % loss_step == 1;
        let is_lost = |at: u64| is_lossy && at > 2 && at + 6 < count && at % 11 == 4;
        let sent = talk.sent.iter().zip(0..).filter(|(_, at)| !is_lost(*at));
        let sent: Vec<_> = sent.map(|(sent, _)| sent.clone()).collect();
        frames.extend(talk.frames_of(&sent, START_NS + number * 1_001, 1000));
    }
    frames.sort_by_key(|frame| frame.ns);
    frames
}

/// The records of one run, and its exit code.
fn run(args: &[&str], stdin: Option<&[u8]>) -> (Vec<Value>, Option<i32>) {
    let output = program::run(&[args, &["-o", "-"]].concat(), stdin);
    (records::parse(&output.stdout), output.status.code())
}

/// Asserts that the file gives the same records on any number of shards, from standard input, and
/// rewritten as a pcapng; and the same frames in blocks of any size.
fn assert_same_by_any_way(path: &Path) {
    let text = path.to_str().expect("a path in UTF-8");
    let (one, code) = run(&["-r", text, "--shards", "1"], None);
    let (many, many_code) = run(&["-r", text, "--shards", "5"], None);
    records::assert_same(&format!("{text}: 1 shard and 5"), &one, &many);
    let file = std::fs::read(path).expect("a capture");
    let (piped, piped_code) = run(&["-r", "-", "--shards", "2"], Some(&file));
    records::assert_same(&format!("{text}: standard input"), &one, &piped);
    assert_eq!([code, code], [many_code, piped_code], "{text}");
    let (links, frames) = read_all(path, 1 << 16);
    assert!((links.clone(), frames.clone()) == read_all(path, 1), "{text}: small blocks");
    let interfaces: Vec<_> = links.iter().map(|link| (number_of(*link), "")).collect();
    let anew = pcapng(Order::Big, &interfaces, &frames);
    let (anew, _) = run(&["-r", "-", "--shards", "3"], Some(&anew));
    let [one, anew] = [one, anew].map(|records| records::without(records, &["iface"]));
    records::assert_same(&format!("{text}: as a pcapng"), &one, &anew);
}

/// The frames of a capture, up to where it is cut off; their interfaces are the link types.
fn read_all(path: &Path, read_bytes: usize) -> (Vec<LinkType>, Vec<WrittenFrame>) {
    let (mut links, mut frames) = (Vec::new(), Vec::new());
    let Ok(mut capture) = open_file(path, read_bytes, 1, &IfaceNames::default()) else {
        return (links, frames);
    };
    let mut visit = |frame: Frame<'_>| {
        let known = links.iter().position(|link| *link == frame.link);
        let interface = known.unwrap_or(links.len());
        if known.is_none() {
            links.push(frame.link);
        }
        frames.push(WrittenFrame {
            ns: frame.timestamp.0,
            bytes: frame.bytes.to_vec(),
            wire_bytes: frame.wire_bytes,
            interface: interface as u32,
        });
    };
    while matches!(capture.sources[0].poll(&mut visit), Ok(Polled::Frames(_) | Polled::Idle)) {}
    (links, frames)
}

/// The number of the link type in files.
fn number_of(link: LinkType) -> u16 {
    (0..=u16::MAX).find(|number| LinkType::from_file(*number) == link).expect("it has one")
}

/// The captures of the corpus, if it exists.
fn corpus() -> Option<Vec<PathBuf>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let mut files = Vec::new();
    for folder in ["real/pcap", "hard"] {
        let entries = std::fs::read_dir(corpus.join(folder)).ok()?;
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_capture = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|text| text.contains("cap"))
        };
        files.extend(paths.filter(is_capture));
    }
    files.sort();
    Some(files)
}

/// Calls `act` with each file, on two threads.
fn with_each(files: Vec<PathBuf>, act: impl Fn(&Path) + Sync) {
    let files = Mutex::new(files);
    let work = || {
        while let Some(file) = { files.lock().unwrap().pop() } {
            act(&file)
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work();
        other.join().expect("every file is the same");
    });
}

#[test]
fn made_up_traffic_gives_the_same_records_by_any_way() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let frames = made_up(3);
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET.into(), &frames);
    std::fs::write(file.path(), capture).expect("room for it");
    let told = reported_of(&frames).records;
    assert!(told.len() > 150 && told.iter().any(|record| record["gap_bytes"].is_u64()));
    assert_same_by_any_way(file.path());
}

#[test]
fn the_corpus_gives_the_same_records_by_any_way() {
    let Some(files) = corpus() else { skip!("needs the corpus in ../shared") };
    assert!(files.len() > 100, "{}", files.len());
    with_each(files, assert_same_by_any_way);
}

#[test]
fn made_up_traffic_gives_the_same_records_from_any_moment_on() {
    let frames = made_up(u64::MAX);
    let links = [LinkType::Ethernet];
    let count = assert_same_from_any_moment_on("made-up traffic", &links, &frames, 40);
    assert!(count > 200, "{count}");
}

#[test]
fn the_corpus_gives_the_same_records_from_any_moment_on() {
    let Some(files) = corpus() else { skip!("needs the corpus in ../shared") };
    with_each(files, |path| {
        let (links, frames) = read_all(path, 1 << 16);
        assert_same_from_any_moment_on(&path.display().to_string(), &links, &frames, 8);
    });
}

/// Checks captures that begin at several moments. Returns how many exchanges of open connections
/// had to be reported.
fn assert_same_from_any_moment_on(
    what: &str,
    links: &[LinkType],
    frames: &[WrittenFrame],
    part_count: usize,
) -> usize {
    let whole = told_from(links, frames);
    let cuts: BTreeSet<_> = (1..part_count).map(|part| frames.len() * part / part_count).collect();
    let check = |cut: usize| {
        let what = format!("{what} from frame {cut} on");
        Cut::new(links, frames, cut).check(&what, &whole, &told_from(links, &frames[cut..]))
    };
    cuts.into_iter().filter(|cut| *cut > 0).map(check).sum()
}

fn told_from(links: &[LinkType], frames: &[WrittenFrame]) -> Reported {
    reported_of_any(frames.iter().map(|frame| frame.as_frame(links[frame.interface as usize])))
}

/// A capture that began later.
struct Cut {
    /// The time of its first frame.
    at: TimestampNs,
    /// Connections with frames before.
    begun: HashSet<FlowKey>,
    /// Those whose first data after the cut begin like a message.
    joined: HashSet<FlowKey>,
    /// Those with another handshake after it.
    renewed: HashSet<FlowKey>,
    /// Those with reordered bytes around the cut: bytes after it precede, in their stream, bytes
    /// that passed before it; or a fragmented packet spans the cut.
    torn: HashSet<FlowKey>,
}

impl Cut {
    fn new(links: &[LinkType], frames: &[WrittenFrame], cut: usize) -> Cut {
        let [mut decoder, mut late] = [(); 2].map(|()| Decoder::new(DecodeConfig::default()));
        let [mut begun, mut joined, mut renewed, mut torn] = [(); 4].map(|()| HashSet::new());
        let mut seen = HashSet::new();
        let mut passed: HashMap<(FlowKey, Direction), SeqNumber> = HashMap::new();
        for (frame, at) in frames.iter().zip(0..) {
            let frame = frame.as_frame(links[frame.interface as usize]);
            let is_late = at >= cut && late.decode(&frame).is_ok();
            let Ok(segment) = decoder.decode(&frame) else { continue };
            let (key, until) = (segment.key, segment.payload_end());
            let passed_until = passed.get(&(key, segment.direction));
            let is_again = passed_until.is_some_and(|it| segment.payload_seq().precedes(*it));
            if at < cut {
                begun.insert(key);
                if segment.timestamp.0 >= frames[cut].ns {
                    torn.insert(key);
                }
                if passed_until.is_none_or(|it| it.precedes(until)) {
                    passed.insert((key, segment.direction), until);
                }
                continue;
            }
            if segment.flags.is_syn() {
                renewed.insert(key);
                continue;
            }
            if !is_late || is_again {
                torn.insert(key);
            }
            if !segment.payload.is_empty() && seen.insert(key) && is_worth_joining(segment.payload)
            {
                joined.insert(key);
            }
        }
        Cut { at: TimestampNs(frames[cut].ns), begun, joined, renewed, torn }
    }

    /// Compares a capture that begins at the cut with the whole one. Returns how many exchanges of
    /// open connections had to be reported.
    ///
    /// For connections that began after the cut, the records are the same. For those that were open
    /// at the cut (midstream: their beginning was not captured):
    /// - a record that was not reported before is marked as midstream;
    /// - no new message is reported, if no exchanges of the connection overlap, none was in
    ///   progress at the cut, nothing was reordered around it, and there is no tunnel. (Otherwise a
    ///   body may contain messages where a message may begin, and nothing shows that it is a body.)
    /// - each exchange after the cut that overlaps no other is reported, if tracking can start
    ///   there, the client was not pipelining, and no bytes around the cut were reordered.
    fn check(&self, what: &str, whole: &Reported, late: &Reported) -> usize {
        let (whole, late) = (self.split(whole), self.split(late));
        records::assert_same(what, &bare(&whole.0), &bare(&late.0));
        let known: BTreeSet<String> = bare(&whole.1).iter().map(Value::to_string).collect();
        for (record, place) in &late.1 {
            let is_known = known.contains(&bare_of(record).to_string());
            let is_marked = record["midstream"] == true || self.renewed.contains(&place.key);
            assert!(is_known || is_marked, "{what}, not marked: {record}");
            let own: Vec<_> = whole.1.iter().filter(|(_, other)| other.key == place.key).collect();
            let may_mislead = |one: &&Placed| self.may_mislead(one) || !is_alone(one, &own);
            if self.torn.contains(&place.key) || own.iter().any(may_mislead) {
                continue;
            }
            for half in HALVES.iter().filter(|half| !record[half[0]].is_null()) {
                let is_same = |other: &Value| half.iter().all(|name| other[*name] == record[*name]);
                assert!(own.iter().any(|(other, _)| is_same(other)), "{what}, new: {record}");
            }
        }
        let told: BTreeSet<String> = bare(&late.1).iter().map(Value::to_string).collect();
        let behind = self.behind(&whole.1);
        for record in &behind {
            assert!(told.contains(&bare_of(record).to_string()), "{what}, missing: {record}");
        }
        behind.len()
    }

    /// The records of connections that began after the cut, and the others. Of those, HTTP/2 is
    /// left out: what its headers refer to may have been sent before the cut (`joined_late.rs`).
    fn split(&self, told: &Reported) -> (Vec<Placed>, Vec<Placed>) {
        let pairs = told.records.iter().cloned().zip(told.places.iter().copied());
        let (new, mut open): (Vec<_>, Vec<Placed>) =
            pairs.partition(|(_, place)| !self.begun.contains(&place.key));
        open.retain(|(record, _)| record["stream"].is_null());
        (new, open)
    }

    /// Whether the exchange may have been in progress at the cut, or began a tunnel.
    fn may_mislead(&self, (record, place): &Placed) -> bool {
        let is_tunnel = record["method"] == "CONNECT" || record["status"] == 101;
        is_tunnel || place.span.is_none_or(|[begin, end]| begin < self.at && self.at <= end)
    }

    /// The exchanges after the cut that overlap no other, and can be reported from there.
    fn behind<'a>(&self, whole: &'a [Placed]) -> Vec<&'a Value> {
        let mut found = Vec::new();
        let is_exact = |key: &&FlowKey| !self.renewed.contains(key) && !self.torn.contains(key);
        for key in self.joined.iter().filter(is_exact) {
            let own: Vec<_> = whole.iter().filter(|(_, place)| place.key == *key).collect();
            if self.is_pipelining(&own) {
                continue;
            }
            let is_behind =
                |place: &ExchangeSpan| place.span.is_some_and(|[begin, _]| begin >= self.at);
            let behind = own.iter().filter(|one| is_behind(&one.1) && is_alone(one, &own));
            found.extend(behind.map(|(record, _)| record));
        }
        found
    }
}

impl Cut {
    /// Whether a request passed after the cut while an exchange from before was in progress. Then
    /// nobody can know how many responses are still to come before its own.
    fn is_pipelining(&self, own: &[&Placed]) -> bool {
        let spans: Vec<_> = own.iter().filter_map(|(_, place)| place.span).collect();
        let is_open = |[begin, end]: &[TimestampNs; 2]| *begin < self.at && self.at <= *end;
        spans
            .iter()
            .filter(|span| is_open(span))
            .any(|open| spans.iter().any(|other| (self.at..=open[1]).contains(&other[0])))
    }
}

/// Whether every other exchange of its connection had its response before this one's request, or
/// its request after this one's response. (The response passes first if a capture lost the order.)
fn is_alone((_, place): &Placed, own: &[&Placed]) -> bool {
    let Some([begin, end]) = place.span else { return false };
    let is_apart =
        |other: &ExchangeSpan| other.span.is_some_and(|[first, last]| last < begin || end < first);
    let apart_count = own.iter().filter(|(_, other)| is_apart(other)).count();
    begin <= end && apart_count + 1 == own.len()
}

/// Fields of a request, and of a response.
const HALVES: [&[&str]; 2] =
    [&["method", "target", "host"], &["status", "reason", "response_content_type"]];

fn bare_of(record: &Value) -> Value {
    records::without(vec![record.clone()], &LOSS_DEPENDENT_FIELDS).remove(0)
}

fn bare(told: &[Placed]) -> Vec<Value> {
    told.iter().map(|(record, _)| bare_of(record)).collect()
}
