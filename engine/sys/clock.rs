//! Whether the clock of this machine is right: adjtimex(2).

use std::io;
use std::mem::zeroed;

use super::cvt;

/// What the kernel knows of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// A time service keeps it right (STA_UNSYNC is not set).
    pub is_synchronised: bool,
    /// How wrong it may be at most, as the time service says.
    pub error_us_max: u64,
}

/// The state of the clock. Needs no privilege.
pub fn state() -> io::Result<ClockState> {
    // SAFETY: zeros are a valid value; `modes` 0 changes nothing.
    let mut values: libc::timex = unsafe { zeroed() };
    // SAFETY: the kernel reads and writes the structure, which lives through the call.
    cvt(unsafe { libc::adjtimex(&mut values) })?;
    Ok(ClockState {
        is_synchronised: values.status & libc::STA_UNSYNC == 0,
        error_us_max: values.maxerror.try_into().unwrap_or(0),
    })
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no such call")]
fn the_state_can_be_read() {
    assert!(state().is_ok());
}
