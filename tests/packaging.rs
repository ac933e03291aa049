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

/// What systemd puts in place of `%I` is the administrator's text: the shell must not read it.
#[test]
fn the_name_of_the_instance_is_not_read_by_a_shell() {
    for unit in [SERVICE, TEMPLATE] {
        for line in settings(unit).iter().filter(|line| line.contains("sh -c")) {
            let read = line.split_once("sh -c ").expect("a command").1;
            let quote = &read[..1];
            let text = read[1..].split_once(quote).expect("a quoted text").0;
            assert!(!text.contains('%'), "{line}");
        }
    }
    let check = settings(TEMPLATE);
    let check = check.iter().find(|line| line.starts_with("ExecStartPre=")).expect("a check");
    assert!(check.ends_with("' sh %I"), "{check}");
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
            let behind = behind.split_once(" >/dev/null").map_or(behind, |(options, _)| options);
            behind.replace("$$1", "%I").replace('"', "").trim().to_string()
        };
        let (checked, started) = (options("ExecStartPre=-"), options("ExecStart="));
        assert_eq!(started.is_empty(), unit == SERVICE, "{started}");
        assert_eq!(checked, started);
    }
}
