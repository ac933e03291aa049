//! temporary
use httplines::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let path = args.iter().position(|a| a == "-r").map(|i| args[i + 1].clone()).unwrap();
    let is_json = args.iter().any(|a| a == "-o");
    let shards: u16 =
        args.iter().position(|a| a == "--shards").map_or(1, |i| args[i + 1].parse().unwrap());
    let config = config::Config::new(config::Input::File(path.clone().into()));
    let names = ids::IfaceNames::default();
    let opened = capture::pcap::open::open_file(path.as_ref(), 1 << 20, shards, &names);
    let opened = match opened {
        Ok(o) => o,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    };
    let mut total = stats::ShardStats::default();
    let mut code = 0;
    for (i, source) in opened.sources.into_iter().enumerate() {
        let format = if is_json {
            emit::AnyFormat::Json(emit::JsonFormat::new(&config.emit, names.clone()))
        } else {
            emit::AnyFormat::Text(emit::TextFormat::new(&config.emit, false, false))
        };
        let share = if shards == 1 {
            shard::Share::All
        } else {
            shard::Share::Part { shard: ids::ShardId(i as u16), count: shards }
        };
        let shard = shard::Shard::new(&config, source, share, emit::Lines::new(format));
        let (s, r) = shard.run(&shard::Orders::default(), |_| {});
        total.add(&s);
        if let Err(e) = r {
            eprintln!("{e}");
            code = 1;
        }
    }
    if std::env::var("V").is_ok() {
        eprintln!("{total:#?}");
    }
    std::process::exit(code);
}
