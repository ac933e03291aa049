//! Loads the fanout program of `bpf/fanout.bpf.c`: bpf(2).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libbpf_rs::ErrorExt;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::filter::Filter;
use super::mmap::Mapping;
use super::privileges;
use super::program::LoadError;

super::skeleton!("fanout");

/// Words of eight bytes of one CPU's slot: `FANOUT_SLOT_WORDS` of `bpf/shared.h`.
const SLOT_WORDS: usize = 8;

/// The program and its counters.
#[derive(Clone, Debug)]
pub struct Fanout {
    program: Arc<OwnedFd>,
    misplaced: Arc<Mapping>,
}

impl Fanout {
    /// Loads the program. It takes the VXLAN ports from `filter`.
    pub fn load(filter: &Filter) -> Result<Fanout, LoadError> {
        Fanout::try_load(filter).map_err(LoadError::new)
    }

    fn try_load(filter: &Filter) -> libbpf_rs::Result<Fanout> {
        let mut storage = MaybeUninit::uninit();
        let mut open = skeleton::FanoutSkelBuilder::default().open(&mut storage)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.is_trusted = privileges::is_trusted().into();
        }
        let word_count = libbpf_rs::num_possible_cpus()? * SLOT_WORDS;
        open.maps.misplaced.set_max_entries(word_count as u32)?;
        open.maps.choices.reuse_fd(filter.choices().as_fd())?;
        let loaded = open.load()?;
        let program = loaded.progs.fanout.as_fd().try_clone_to_owned();
        let misplaced =
            Mapping::of_file(loaded.maps.misplaced.as_fd(), word_count * size_of::<u64>())?;
        Ok(Fanout {
            program: Arc::new(program.context("cannot duplicate the program's descriptor")?),
            misplaced: Arc::new(misplaced),
        })
    }

    /// The program, for
    /// [`PacketSocket::direct_group`](super::packet_socket::PacketSocket::direct_group).
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Fragments that arrived before the first one of their datagram, or inside a tunnel, and so
    /// may have gone to another shard than their connection.
    pub fn misplaced_fragments(&self) -> u64 {
        let slot_bytes = SLOT_WORDS * size_of::<u64>();
        let slots = (0..self.misplaced.len()).step_by(slot_bytes);
        slots.map(|slot| self.misplaced.word64(slot).load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn slots_are_those_of_the_kernel_half() {
        let line = format!("#define FANOUT_SLOT_WORDS {}", super::SLOT_WORDS);
        super::super::assert_shared(&[&line]);
    }
}
