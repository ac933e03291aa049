//! What a run tells of itself, apart from its records: a line of statistics, as `http.stats` has
//! them. The run that top starts makes the same line once a second, so both are read here.

use serde_json::Value;
use std::time::Duration;

/// Something that was lost, counted since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// A few letters.
    pub name: &'static str,
    pub total: u64,
}

/// A thread that works, and its ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    /// CPU time since the start.
    pub cpu: Duration,
    /// The fullest of its rings now: blocks that wait, of 100; `None` where it has no ring.
    pub ring_percent: Option<u64>,
    pub is_responding: bool,
}

/// The state of a run at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunState {
    /// Tells runs apart whose lines are in one file.
    pub run: String,
    /// The number of the line.
    pub seq: u64,
    /// The run is over.
    pub is_final: bool,
    /// How long it has been running.
    pub elapsed: Duration,
    /// What it captures on.
    pub interfaces: Vec<(String, String)>,
    pub losses: [Loss; 6],
    /// Bytes in the gaps, which are the fourth loss.
    pub gap_bytes: u64,
    /// Connections that are open, and exchanges under way.
    pub connections: u64,
    pub exchanges: u64,
    /// Connections that have ended, by what they spoke.
    pub kinds: Vec<(String, u64)>,
    /// Bytes of captured frames.
    pub frame_bytes: u64,
    /// Each shard; none if there are too many to be told one by one.
    pub shards: Vec<ShardState>,
    pub shard_count: u64,
    /// CPU time of all shards, and of the writer.
    pub shards_cpu: Duration,
    pub writer_cpu: Duration,
    /// The age of the oldest line that is not written.
    pub lag: Duration,
}

impl RunState {
    /// Reads a line. What it does not have is zero. `None`: it is no line of statistics.
    pub fn of_line(line: &[u8]) -> Option<RunState> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let number = |path: &str| line.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let text = |path: &str| line.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let rows = |path: &str| line.pointer(path).and_then(Value::as_array);
        let total = line.get("total")?.as_object()?;
        let sum = |group: &str| {
            let group = total.get(group).and_then(Value::as_object);
            let counts = group.into_iter().flat_map(|it| it.values().filter_map(Value::as_u64));
            counts.fold(0, u64::saturating_add)
        };
        let losses = [
            ("ring full", number("/total/frames/dropped")),
            ("before us", sum("before_us")),
            ("lines", sum("lines_lost")),
            ("gaps", number("/total/flow/gaps")),
            ("evicted", number("/total/flow/flows_evicted")),
            ("refused", number("/total/flow/segments_refused")),
        ];
        let kinds = total.get("connections").and_then(Value::as_object);
        let kinds = kinds.into_iter().flatten();
        let member = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        let name = |row: &Value, of| row.get(of).and_then(Value::as_str).map(str::to_string);
        let interfaces = rows("/gauges/interfaces").into_iter().flatten();
        Some(RunState {
            run: text("/run").to_string(),
            seq: number("/seq"),
            is_final: line.get("final").and_then(Value::as_bool).unwrap_or(false),
            elapsed: Duration::from_millis(number("/total/elapsed_ms")),
            interfaces: interfaces
                .filter_map(|row| Some((name(row, "name")?, name(row, "state")?)))
                .collect(),
            losses: losses.map(|(name, total)| Loss { name, total }),
            gap_bytes: number("/total/flow/gap_bytes"),
            connections: number("/gauges/connections"),
            exchanges: number("/gauges/exchanges"),
            kinds: kinds.filter_map(|(name, it)| Some((name.clone(), it.as_u64()?))).collect(),
            frame_bytes: number("/total/frames/captured_bytes"),
            shards: rows("/total/shards")
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(shard, row)| ShardState {
                    cpu: Duration::from_nanos(member(row, "cpu_ns")),
                    ring_percent: ring_percent(rows("/gauges/rings"), shard as u64),
                    is_responding: line
                        .pointer(&format!("/gauges/shards/{shard}/is_responding"))
                        .and_then(Value::as_bool)
                        .unwrap_or(true),
                })
                .collect(),
            shard_count: number("/shard_count"),
            shards_cpu: Duration::from_nanos(number("/total/cpu_ns/shards")),
            writer_cpu: Duration::from_nanos(number("/total/cpu_ns/writer")),
            lag: Duration::from_millis(number("/gauges/lag_ms")),
        })
    }

    /// Whether both are of one run, and this one is the later.
    pub fn continues(&self, before: &RunState) -> bool {
        self.run == before.run && self.elapsed >= before.elapsed
    }
}

/// The fullest ring of a shard.
fn ring_percent(rings: Option<&Vec<Value>>, shard: u64) -> Option<u64> {
    let member = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64);
    let of_shard = rings?.iter().filter(|row| member(row, "shard") == Some(shard));
    let percent = of_shard.filter_map(|row| {
        let full = member(row, "full_blocks_most")?.saturating_mul(100);
        full.checked_div(member(row, "block_count")?)
    });
    percent.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"run":"00f1","seq":3,"final":false,"shard_count":2,
        "total":{"elapsed_ms":12500,
          "frames":{"dropped":7,"captured_bytes":9000},
          "before_us":{"rx_missed":12,"rx_dropped":1,"softnet_dropped":2},
          "lines_lost":{"queue_full":1,"disk_full":2,"write_error":0,"reader_gone":0},
          "flow":{"gaps":3,"gap_bytes":4100,"flows_evicted":5,"segments_refused":9},
          "connections":{"http1":92,"tls":7},
          "cpu_ns":{"shards":3000000000,"writer":1000000},
          "shards":[{"shard":0,"cpu_ns":2000000000},{"shard":1,"cpu_ns":1000000000}]},
        "gauges":{"connections":41,"exchanges":318,"lag_ms":100,
          "interfaces":[{"name":"eth1","state":"up"}],
          "shards":[{"shard":0,"is_responding":true},{"shard":1,"is_responding":false}],
          "rings":[{"interface":"eth1","shard":0,"block_count":256,"full_blocks_most":5},
                   {"interface":"eth2","shard":0,"block_count":256,"full_blocks_most":128}]}}"#;

    #[test]
    fn a_line_of_statistics_is_read() {
        let state = RunState::of_line(LINE.as_bytes()).expect("a line");
        let losses = state.losses.map(|loss| (loss.name, loss.total));
        assert_eq!(losses[..4], [("ring full", 7), ("before us", 15), ("lines", 3), ("gaps", 3)]);
        assert_eq!((state.elapsed, state.connections), (Duration::from_millis(12_500), 41));
        assert_eq!(state.kinds, [("http1".to_string(), 92), ("tls".to_string(), 7)]);
        assert_eq!(state.interfaces, [("eth1".to_string(), "up".to_string())]);
        let [first, second] = state.shards[..] else { panic!("two shards") };
        assert_eq!((first.cpu, first.ring_percent), (Duration::from_secs(2), Some(50)));
        assert_eq!((second.ring_percent, second.is_responding), (None, false));
    }

    #[test]
    fn what_is_no_line_of_statistics_is_none() {
        for line in ["", "{", "{}", "[]", "7", r#"{"total":3}"#, r#"{"ts":"x","flow":"y"}"#] {
            assert_eq!(RunState::of_line(line.as_bytes()), None, "{line}");
        }
        let bare = RunState::of_line(br#"{"total":{},"gauges":7}"#).expect("a line");
        assert_eq!((bare.elapsed, bare.shards.len()), (Duration::ZERO, 0));
    }

    /// Names that a line must have, or the screen shows zero: a run makes them.
    #[test]
    fn the_schema_has_what_is_read() {
        let schema = include_str!("../../../docs/stats.schema.json");
        let source = include_str!("run_state.rs").split("#[cfg(test)]").next().unwrap_or_default();
        let names = source.split('"').skip(1).step_by(2).flat_map(|text| text.split('/'));
        let names = names.filter(|it| {
            it.contains('_') && it.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        });
        let mut count = 0;
        for name in names {
            assert!(schema.contains(&format!("\"{name}\"")), "{name}");
            count += 1;
        }
        assert!(count > 10, "{count}");
    }
}
