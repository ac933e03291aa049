//! The service manager that started this process, as sd_notify(3) and sd_watchdog_enabled(3) have
//! it: by environment variables. The program starts no other one, so that nobody inherits them.

use httplines::config::ServiceManager;
use std::ffi::OsString;

/// The service manager that wants to be notified, if there is one.
pub fn manager() -> Option<ServiceManager> {
    let (manager, warning) = named_by(|name| std::env::var_os(name), std::process::id());
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    manager
}

/// The service manager that `variable` names to the process `pid`, and what is wrong with it.
fn named_by(
    variable: impl Fn(&str) -> Option<OsString>,
    pid: u32,
) -> (Option<ServiceManager>, Option<String>) {
    let address = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty());
    let Some(address) = address else { return (None, None) };
    let text = |name| variable(name).map(|text| text.to_string_lossy().into_owned());
    // Of a process that this one replaced, or a parent.
    let is_for_other = text("WATCHDOG_PID").is_some_and(|text| text != pid.to_string());
    let wanted = text("WATCHDOG_USEC").filter(|_| !is_for_other);
    let watchdog_us = wanted.as_ref().and_then(|text| text.parse().ok()).filter(|us| *us > 0);
    let warning = wanted.filter(|_| watchdog_us.is_none()).map(|text| {
        format!("WATCHDOG_USEC={text} is no number of microseconds; continuing without a watchdog")
    });
    (Some(ServiceManager { address, watchdog_us }), warning)
}

#[test]
fn variables_are_those_of_systemd() {
    let named = |variables: &str| {
        let value = |name: &str| {
            let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let (manager, warning) = named_by(value, 42);
        let manager = manager.map(|it| (it.address.into_string().unwrap(), it.watchdog_us));
        (manager, warning.is_some())
    };
    assert_eq!(named(""), (None, false));
    assert_eq!(named("NOTIFY_SOCKET= WATCHDOG_USEC=7"), (None, false));
    for (variables, watchdog_us, is_warned) in [
        ("", None, false),
        ("WATCHDOG_USEC=30000000", Some(30_000_000), false),
        ("WATCHDOG_USEC=7 WATCHDOG_PID=42", Some(7), false),
        ("WATCHDOG_USEC=7 WATCHDOG_PID=43", None, false),
        ("WATCHDOG_USEC=x WATCHDOG_PID=43", None, false),
        ("WATCHDOG_USEC=30s", None, true),
        ("WATCHDOG_USEC=0", None, true),
    ] {
        let expected = (Some(("/run/n".to_string(), watchdog_us)), is_warned);
        assert_eq!(named(&format!("NOTIFY_SOCKET=/run/n {variables}")), expected, "{variables}");
    }
}
