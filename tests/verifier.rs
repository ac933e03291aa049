//! How much work our programs are for the kernel's verifier.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use httplines::config::{CaptureConfig, DecodeConfig};
    use httplines::sys::fanout::Fanout;
    use httplines::sys::filter::Filter;
    use httplines::sys::program::{Verified, verified};

    use crate::support::namespace::{CAP_BPF, CAP_NET_RAW, Namespace};
    use crate::support::skip;

    /// What the verifier allows: BPF_COMPLEXITY_LIMIT_INSNS of linux/bpf_verifier.h.
    const INSTRUCTION_COUNT_MAX: u32 = 1_000_000;

    /// All programs that a live capture loads.
    fn programs() -> Vec<Verified> {
        let filter = Filter::load(&CaptureConfig::default(), &DecodeConfig::default());
        let filter = filter.expect("two capabilities are enough");
        let fanout = Fanout::load(&filter, 16384).expect("two capabilities are enough");
        let all = filter.parts().chain([filter.program(), fanout.program()]);
        all.map(|program| verified(program).expect("the kernel knows its programs")).collect()
    }

    /// Without CAP_PERFMON the verifier follows speculative paths, too. A program that comes near
    /// its limit may be rejected by the next kernel, or when the next compiler makes it.
    #[test]
    fn no_program_needs_more_than_half_of_the_limit_without_cap_perfmon() {
        let Some(place) = Namespace::new() else { skip!("needs root") };
        place.keep_capabilities(&[CAP_NET_RAW, CAP_BPF]);
        let programs = place.run(programs);
        let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["filter_plain", "filter_tunnel", "http_filter", "fanout"]);
        if programs.iter().all(|program| program.instruction_count == 0) {
            skip!("the kernel does not count them before Linux 5.16");
        }
        for Verified { name, instruction_count } in programs {
            assert!(
                (1..=INSTRUCTION_COUNT_MAX / 2).contains(&instruction_count),
                "{name} takes the verifier {instruction_count} instructions"
            );
        }
    }
}
