//! What packages install agrees with itself and with the program. `scripts/integration` installs
//! it.

use std::collections::BTreeSet;

const SERVICE: &str = include_str!("../packaging/httplines.service");
const TEMPLATE: &str = include_str!("../packaging/httplines@.service");

/// The settings of a unit, with lines that go on joined.
fn settings(unit: &str) -> BTreeSet<String> {
    let joined = unit.replace("\\\n", "");
    let lines = joined.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_string).collect()
}

fn names<'a>(settings: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    settings.map(|line| line.split('=').next().unwrap_or_default()).collect()
}

/// A right that one unit has and the other has not would be a mistake.
#[test]
fn units_differ_in_the_interface_only() {
    let (service, template) = (settings(SERVICE), settings(TEMPLATE));
    assert!(service.len() > 50, "only {} settings were read", service.len());
    let of_interface =
        ["After", "Description", "ExecStart", "ExecStartPre", "LogsDirectory", "WantedBy"];
    let differ = names(service.difference(&template));
    assert_eq!(differ.into_iter().collect::<Vec<_>>(), of_interface);
    let only_template = names(template.difference(&service));
    let expected: BTreeSet<&str> = of_interface.into_iter().chain(["BindsTo"]).collect();
    assert_eq!(only_template, expected);
}

/// Whoever may set capabilities, or may load programs, may do more than these three.
#[test]
fn the_service_has_three_capabilities() {
    let settings = settings(SERVICE);
    for name in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert!(settings.contains(&format!("{name}=CAP_NET_RAW CAP_BPF CAP_PERFMON")), "{name}");
    }
}

/// `check-config` looks at the same settings as the start.
#[test]
fn the_settings_that_are_checked_are_those_of_the_start() {
    for unit in [SERVICE, TEMPLATE] {
        let settings = settings(unit);
        let options = |name: &str| {
            let line = settings.iter().find(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("there is no {name}"));
            let behind = line.split_once(".toml").expect("a configuration").1;
            behind.trim_end_matches(" >/dev/null\"").trim().to_string()
        };
        let (checked, started) = (options("ExecStartPre=-"), options("ExecStart="));
        assert_eq!(started.is_empty(), unit == SERVICE, "{started}");
        assert_eq!(checked, started);
    }
}
