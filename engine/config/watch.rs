//! Who watches a run.

use std::ffi::OsString;
use std::net::SocketAddr;

/// Who is told how the run goes, apart from its lines and the file of statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchConfig {
    /// How often a live capture without a file of statistics reports its rates
    /// (`Notice::Rates`); `None`: never.
    pub rates_interval_ms: Option<u64>,
    /// How often the run tells whoever runs it all that it would write into the file of statistics
    /// (`Notice::Record`), which is then not written; `None`: never.
    pub records_interval_ms: Option<u64>,
    /// Whoever runs it shows it on a terminal, and goes on doing so after the seal: its calls are
    /// allowed.
    pub is_on_screen: bool,
    /// Where the metrics of a live capture can be scraped.
    pub metrics: Option<SocketAddr>,
    /// The service manager that is notified.
    pub service: Option<ServiceManager>,
}

/// A service manager that wants to know when a service is ready, and whether it is alive:
/// sd_notify(3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceManager {
    /// The address of its socket (`NOTIFY_SOCKET`): a path, or `@` and a name in the abstract
    /// namespace, as of unix(7).
    pub address: OsString,
    /// Within which time it wants a sign of life (`WATCHDOG_USEC`); `None`: it wants none.
    pub watchdog_us: Option<u64>,
}
