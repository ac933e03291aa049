//! bpf/*.bpf.c → skeletons in OUT_DIR.
fn main() {}
