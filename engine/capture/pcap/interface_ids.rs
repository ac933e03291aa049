//! [`InterfaceIds`]: the ids of the interfaces in capture files.

use crate::ids::{IfaceId, IfaceNames};
use std::collections::HashMap;

/// Names that are kept; a hostile file may have any number of them.
const NAME_COUNT_MAX: usize = 4096;
/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 256;

/// One id for each name. The files of a rotated capture and the sections of a pcapng describe the
/// same interfaces again and again, and all of these get the same id. Interfaces without a name
/// share one, too.
#[derive(Clone, Debug)]
pub(super) struct InterfaceIds {
    names: IfaceNames,
    by_name: HashMap<String, IfaceId>,
}

impl InterfaceIds {
    /// No ids yet. The names will go to `names`.
    pub(super) fn new(names: &IfaceNames) -> InterfaceIds {
        InterfaceIds { names: names.clone(), by_name: HashMap::new() }
    }

    /// The id of the interface called `name`. It is called "" if it has no name, or if there are
    /// too many names.
    pub(super) fn of(&mut self, name: &[u8]) -> IfaceId {
        let name = String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES_MAX)]);
        let mut name = name.trim_end_matches('\0');
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        if self.by_name.len() >= NAME_COUNT_MAX {
            name = "";
        }
        let next = IfaceId(self.by_name.len() as u32);
        let id = *self.by_name.entry(name.to_string()).or_insert(next);
        if !name.is_empty() {
            self.names.insert(id, name);
        }
        id
    }
}

#[test]
fn names_are_bounded_and_each_has_one_id() {
    let names = IfaceNames::default();
    let mut ids = InterfaceIds::new(&names);
    let [eth0, none, eth1] = [&b"eth0"[..], b"", b"eth1\0"].map(|name| ids.of(name));
    assert_eq!([eth0, none, eth1], [0, 1, 2].map(IfaceId));
    assert_eq!((ids.of(b"eth0"), ids.of(b""), ids.of(b"eth1")), (eth0, none, eth1));
    assert_eq!(
        [eth0, none, eth1].map(|id| names.get(id)),
        [Some("eth0"), None, Some("eth1")].map(|name| name.map(str::to_string))
    );
    for n in 0..2 * NAME_COUNT_MAX {
        ids.of(format!("veth{n}").as_bytes());
    }
    assert_eq!(ids.by_name.len(), NAME_COUNT_MAX);
    assert_eq!((ids.of(b"one more"), ids.of(b"eth1")), (none, eth1));
}
