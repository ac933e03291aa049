//! Loads the fanout program of `bpf/fanout.bpf.c`: bpf(2).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::ErrorExt;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::filter::Filter;
use super::privileges;
use super::program::LoadError;

super::skeleton!("fanout");

/// The program.
#[derive(Debug)]
pub struct Fanout(OwnedFd);

impl Fanout {
    /// Loads the program. It has the same keys as `filter`, with the same hash, and the same VXLAN
    /// ports. It remembers the shards of `datagram_count` fragmented datagrams.
    pub fn load(filter: &Filter, datagram_count: u32) -> Result<Fanout, LoadError> {
        Fanout::try_load(filter, datagram_count).map_err(LoadError::new)
    }

    fn try_load(filter: &Filter, datagram_count: u32) -> libbpf_rs::Result<Fanout> {
        super::hush_libbpf();
        let mut storage = MaybeUninit::uninit();
        let mut open = skeleton::FanoutSkelBuilder::default().open(&mut storage)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.is_trusted = privileges::is_trusted().into();
            constants.flow_hash_key = filter.hash_key().0;
            constants.is_vlan_ignored = filter.is_vlan_ignored().into();
        }
        open.maps.datagrams.set_max_entries(datagram_count)?;
        open.maps.choices.reuse_fd(filter.choices().as_fd())?;
        let loaded = open.load()?;
        let program = loaded.progs.fanout.as_fd().try_clone_to_owned();
        Ok(Fanout(program.context("cannot duplicate the program's descriptor")?))
    }

    /// The program, for
    /// [`PacketSocket::direct_group`](super::packet_socket::PacketSocket::direct_group).
    pub fn program(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
