//! What the sidecar of a soak says: losses by cause while it runs, and whether its lines add up to
//! what the program said at its end. docs/stats.schema.json has its fields.

use super::folder::SIDECAR;
use super::samples::Told;
use crate::totals::Totals;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Counters that are losses: groups of the totals, or one of a group, with what is lost.
const LOSSES: [(&str, &str, &str); 3] = [
    ("/total/frames", "dropped", "frames"),
    ("/total/before_us", "", "frames"),
    ("/total/lines_lost", "", "lines"),
];

/// What the last line says: in the active sidecar, or in the one that was closed last.
pub fn latest(folder: &Path) -> Option<Told> {
    let names =
        folder.read_dir().ok()?.flatten().filter_map(|it| it.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with("http-") && name.ends_with(".stats")).max();
    let last_of = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        let (whole, _) = text.rsplit_once('\n')?;
        Some(told(&serde_json::from_str(whole.lines().next_back()?).ok()?))
    };
    last_of(SIDECAR).or_else(|| last_of(&newest?))
}

fn told(line: &Value) -> Told {
    let mut losses = BTreeMap::new();
    for (group, only, what) in LOSSES {
        let counters = line.pointer(group).and_then(Value::as_object);
        for (name, count) in counters.into_iter().flatten() {
            let count = count.as_u64().unwrap_or(0);
            if count > 0 && (only.is_empty() || name == only) {
                losses.insert(format!("{what}, {}", name.replace('_', " ")), count);
            }
        }
    }
    Told {
        lines: number(line, "/total/lines/written"),
        rotations: number(line, "/total/files/rotations"),
        losses,
    }
}

fn number(line: &Value, pointer: &str) -> u64 {
    line.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// What is wrong with the lines of the whole run.
pub fn faults(lines: &[String], totals: &Totals) -> Vec<String> {
    let parsed = lines.iter().map(|line| serde_json::from_str::<Value>(line));
    let mut lines = match parsed.collect::<Result<Vec<_>, _>>() {
        Ok(lines) => lines,
        Err(error) => return vec![format!("a line of the sidecar is no JSON: {error}")],
    };
    lines.sort_by_key(|line| number(line, "/seq"));
    let Some(last) = lines.last() else { return vec!["the sidecar has no line".into()] };
    let mut faults = Vec::new();
    if last["final"] != true || lines.iter().filter(|line| line["final"] == true).count() != 1 {
        faults.push("the last line of the sidecar, and no other, should be final".into());
    }
    for key in ["violations", "errors"] {
        let told = last[key].as_array().map(Vec::as_slice).unwrap_or_default();
        faults.extend(told.iter().map(|it| format!("the sidecar tells {key}: {it}")));
    }
    let mut law = |left_name: &str, left: u64, right_name: &str, right: u64| {
        if left != right {
            faults.push(format!("in the sidecar {left_name} {left} is not {right_name} {right}"));
        }
    };
    let lost = last["total"]["lines_lost"].as_object();
    let lost: u64 = lost.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let made = number(last, "/total/lines/made");
    let written = number(last, "/total/lines/written");
    law("lines made", made, "written + lost by cause", written + lost);
    law("lines written", written, "what was said at the end", totals.lines_written);
    law("lines lost by cause", lost, "what was said at the end", totals.lines_lost);
    let dropped = number(last, "/total/frames/dropped");
    law("frames dropped", dropped, "what was said at the end", totals.ring_drops);
    let offered = number(last, "/total/frames/offered");
    law("frames offered", offered, "what was said at the end", totals.offered);
    // A line that could not be written is counted in the next one.
    let told = number(last, "/total/sidecar/lines_lost") + lines.len() as u64;
    law("lines of its own", told, "their last number + 1", number(last, "/seq") + 1);
    let mut sum = BTreeMap::new();
    lines.iter().for_each(|line| add_up(&line["delta"], "", &mut sum));
    let mut total = BTreeMap::new();
    add_up(&last["total"], "", &mut total);
    for (name, total) in total {
        law(&format!("{name}, all deltas"), sum.get(&name).copied().unwrap_or(0), "in all", total);
    }
    faults
}

/// Adds all counters in `value` to those of the same place.
fn add_up(value: &Value, place: &str, sum: &mut BTreeMap<String, u64>) {
    let below = |name: &str| match place {
        "" => name.to_string(),
        place => format!("{place}.{name}"),
    };
    match value {
        Value::Number(count) => {
            *sum.entry(place.into()).or_default() += count.as_u64().unwrap_or(0)
        }
        Value::Object(parts) => {
            // The number of a shard is its name.
            let counters = parts.iter().filter(|(name, _)| *name != "shard");
            counters.for_each(|(name, part)| add_up(part, &below(name), sum));
        }
        Value::Array(parts) => {
            let numbered = parts.iter().enumerate();
            numbered.for_each(|(index, part)| add_up(part, &below(&index.to_string()), sum));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn totals() -> Totals {
        Totals { offered: 30, ring_drops: 2, lines_written: 7, lines_lost: 3, ..Totals::default() }
    }

    fn counters(offered: u64, dropped: u64, made: u64, disk_full: u64) -> Value {
        json!({
            "frames": {"offered": offered, "dropped": dropped},
            "before_us": {"rx_missed": 0},
            "lines": {"made": made, "written": made - disk_full},
            "lines_lost": {"queue_full": 0, "disk_full": disk_full},
            "sidecar": {"lines_lost": 0},
            "shards": [{"shard": 3, "lines": made}],
        })
    }

    fn lines() -> Vec<Value> {
        vec![
            json!({"seq": 0, "final": false, "total": counters(10, 0, 4, 0),
                "delta": counters(10, 0, 4, 0)}),
            json!({"seq": 1, "final": true, "violations": [], "errors": [],
                "total": counters(30, 2, 10, 3), "delta": counters(20, 2, 6, 3)}),
        ]
    }

    fn found(lines: &[Value]) -> Vec<String> {
        faults(&lines.iter().map(Value::to_string).collect::<Vec<_>>(), &totals())
    }

    #[test]
    fn losses_are_told_by_their_causes() {
        let told = told(&lines()[1]);
        let wanted = [("frames, dropped", 2), ("lines, disk full", 3)];
        assert_eq!(told.losses, wanted.map(|(name, count)| (name.to_string(), count)).into());
        assert_eq!(told.lines, 7);
    }

    #[test]
    fn whatever_does_not_add_up_is_found() {
        assert_eq!(found(&lines()), [""; 0]);
        // In whatever order the files were read.
        assert_eq!(found(&[lines()[1].clone(), lines()[0].clone()]), [""; 0]);
        type Change = fn(&mut Vec<Value>);
        let changes: [(Change, &str); 6] = [
            (|it| it[1]["final"] = false.into(), "should be final"),
            (|it| it[1]["violations"] = json!(["flows 1 is not 2"]), "flows 1 is not 2"),
            (
                |it| it[1]["total"]["lines_lost"]["disk_full"] = 2.into(),
                "written + lost by cause 9",
            ),
            (|it| it[0]["delta"]["shards"][0]["lines"] = 5.into(), "shards.0.lines, all deltas 11"),
            (|it| it[1]["seq"] = 2.into(), "their last number + 1 3"),
            (|it| it[1]["total"]["frames"]["offered"] = 29.into(), "frames offered 29"),
        ];
        for (change, words) in changes {
            let mut lines = lines();
            change(&mut lines);
            let faults = found(&lines);
            assert!(faults.iter().any(|fault| fault.contains(words)), "{words}: {faults:?}");
        }
    }
}
