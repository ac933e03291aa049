//! What each stage costs, one group a stage.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use httplines::config::EmitConfig;
use httplines::emit::{Format, JsonFormat};
use httplines::ids::{IfaceId, IfaceNames};
use std::hint::black_box;

#[path = "../tests/support/exchange.rs"]
#[allow(dead_code)]
mod exchange;

/// An exchange becomes a JSON line, in a batch of 256 KiB that begins anew when it is full.
fn json_line(criterion: &mut Criterion) {
    let key = exchange::key_v4();
    let flow = exchange::flow(&key);
    let names = IfaceNames::default();
    names.insert(IfaceId(0), "eth0");
    let mut batch = Vec::with_capacity(512 << 10);
    let mut group = criterion.benchmark_group("json_line");
    let mut hostile = exchange::typical();
    exchange::header(&mut hostile.request, "User-Agent", "\"é\" \\ \u{1f600}".as_bytes());
    exchange::header(&mut hostile.request, "Referer", b"https://www.example.com/\xff\xfe?q=\x01");
    let all = EmitConfig { is_all_headers: true, ..EmitConfig::default() };
    let cases = [
        ("typical", exchange::typical(), EmitConfig::default()),
        ("escapes", hostile, EmitConfig::default()),
        ("all_headers", exchange::typical(), all),
    ];
    for (name, exchange, config) in cases {
        let mut format = JsonFormat::new(&config, names.clone());
        batch.clear();
        format.exchange(&flow, &exchange, &mut batch);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                format.exchange(&flow, black_box(&exchange), &mut batch);
                if batch.len() >= 256 << 10 {
                    batch.clear();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(stages, json_line);
criterion_main!(stages);
