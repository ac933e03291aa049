//! A capture file as a round: its frames in their order, with other client addresses in every
//! round.

use crate::frame::kind;
use crate::round::Round;
use crate::traffic::Step;
use anyhow::{bail, ensure};
use httplines::capture::pcap::open::open_file;
use httplines::capture::{FrameSource, LinkType, Polled};
use httplines::ids::IfaceNames;
use std::collections::HashMap;
use std::path::Path;

const READ_BYTES: usize = 1 << 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Reads a capture of Ethernet frames; an error is a sentence for the user.
pub fn round(path: &Path) -> anyhow::Result<Round> {
    let mut capture = open_file(path, READ_BYTES, 1, &IfaceNames::default())?;
    let (mut round, mut clients, mut fault) = (Round::default(), HashMap::new(), None);
    let source = &mut capture.sources[0];
    while source.poll(&mut |frame| {
        let number = round.steps.len() + 1;
        if frame.link != LinkType::Ethernet {
            fault.get_or_insert(format!("frame {number} is no Ethernet frame"));
        } else if frame.wire_bytes as usize > frame.bytes.len() {
            fault.get_or_insert(format!("frame {number} was cut; capture whole frames (-s 0)"));
        } else if !(14..=usize::from(u16::MAX)).contains(&frame.bytes.len()) {
            fault.get_or_insert(format!("frame {number} has {} bytes", frame.bytes.len()));
        } else {
            push(&mut round, &mut clients, frame.bytes);
        }
    })? != Polled::End
    {
        if fault.is_some() {
            break;
        }
    }
    if let Some(fault) = fault {
        bail!("{} cannot be sent: {fault}", path.display());
    }
    ensure!(!round.steps.is_empty(), "{} holds no frame", path.display());
    Ok(round)
}

/// The address that changes, of each pair of addresses: that of the first sender.
type Clients = HashMap<[Vec<u8>; 2], Vec<u8>>;

fn push(round: &mut Round, clients: &mut Clients, frame: &[u8]) {
    let mut step = Step {
        template: round.templates.len() as u32,
        frame_bytes: frame.len() as u16,
        ..Step::default()
    };
    if let Some(packet) = Packet::find(frame) {
        let ends = packet.ends.map(|at| frame[at..at + packet.address_bytes].to_vec());
        let mut pair = ends.clone();
        pair.sort();
        let client = clients.entry(pair).or_insert_with(|| ends[0].clone());
        let at = packet.ends[usize::from(*client != ends[0])];
        step.kind = kind::REPLAY;
        // The upper half of the last word of the address changes.
        step.seq = (at + packet.address_bytes - 4) as u32;
        step.ack = packet.ip_sum_at | packet.transport_sum_at << 16;
    }
    round.byte_count += frame.len() as u64;
    round.steps.push(step);
    round.templates.push(frame.to_vec());
}

/// Offsets of the addresses in an IP packet, and of the checksums over them.
struct Packet {
    ends: [usize; 2],
    address_bytes: usize,
    ip_sum_at: u32,
    transport_sum_at: u32,
}

impl Packet {
    fn find(frame: &[u8]) -> Option<Packet> {
        let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let mut at = 12;
        while matches!(half(at)?, 0x8100 | 0x88a8 | 0x9100) {
            at += 4;
        }
        let ip = at + 2;
        match half(at)? {
            0x0800 => {
                let header_bytes = usize::from(frame.get(ip)? & 15) * 4;
                frame.get(ip + header_bytes.max(20) - 1)?;
                // A fragment that is not the first has no transport header.
                let is_later = half(ip + 6)? & 0x1fff != 0;
                let protocol = if is_later { 0 } else { frame[ip + 9] };
                Some(Packet {
                    ends: [ip + 12, ip + 16],
                    address_bytes: 4,
                    ip_sum_at: ip as u32 + 10,
                    transport_sum_at: transport_sum_at(frame, protocol, ip + header_bytes),
                })
            }
            0x86dd => {
                frame.get(ip + 39)?;
                Some(Packet {
                    ends: [ip + 8, ip + 24],
                    address_bytes: 16,
                    ip_sum_at: 0,
                    transport_sum_at: transport_sum_at(frame, frame[ip + 6], ip + 40),
                })
            }
            _ => None,
        }
    }
}

/// 0 where there is none.
fn transport_sum_at(frame: &[u8], protocol: u8, at: usize) -> u32 {
    let sum_at = match protocol {
        TCP => at + 16,
        UDP => at + 6,
        _ => return 0,
    };
    match frame.get(sum_at..sum_at + 2) {
        // UDP without a checksum.
        Some([0, 0]) if protocol == UDP => 0,
        Some(_) => sum_at as u32,
        None => 0,
    }
}
