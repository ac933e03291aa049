//! `docs/schema/`: tables for ClickHouse and DuckDB and an index template for OpenSearch, generated
//! from `docs/schema.json` and `docs/stats.schema.json`. `HTTPLINES_WRITE_SCHEMAS=1 cargo test
//! --test main schemas` writes them; `scripts/integration queries` runs them.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::keys::key_order;
use crate::support::{schema, stats_schema};

/// The environment variable that makes the test write the files instead of comparing them.
const WRITE: &str = "HTTPLINES_WRITE_SCHEMAS";

/// Texts of which nearly every one is different. Those of the others repeat.
const FREE_TEXTS: [&str; 8] = [
    "community_id",
    "target",
    "user_agent",
    "referer",
    "location",
    "grpc_message",
    "close_reason",
    "output",
];

/// Names that have another meaning in SQL, and are quoted.
const RESERVED: [&str; 1] = ["group"];

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A time with nanoseconds.
    Time,
    /// An address of either version of IP.
    Address,
    Flag,
    /// A text of exactly this many bytes.
    Fixed(u64),
    /// A text that is seldom the same twice.
    Free,
    /// A text that repeats, such as a host.
    Repeating,
    /// A number up to `max`.
    Number {
        max: u64,
    },
    List(Box<Kind>),
    /// Anything, as the text of its JSON.
    Json,
}

/// A field of a record.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    kind: Kind,
    /// 0 is a value of it that is not the same as absent.
    is_zero_told: bool,
}

/// What a property of a schema holds. Panics if it is of a form that nobody has thought of.
fn kind_of(name: &str, property: &Value) -> Kind {
    let pattern = property["pattern"].as_str().unwrap_or_default();
    if property.get("$ref").is_some() {
        return Kind::Json;
    }
    if property["const"] == json!(true) || property["type"] == "boolean" {
        return Kind::Flag;
    }
    if property["const"].is_string() || property["enum"].is_array() {
        return Kind::Repeating;
    }
    match property["type"].as_str() {
        Some("integer") => Kind::Number { max: property["maximum"].as_u64().unwrap_or(u64::MAX) },
        Some("array") => Kind::List(Box::new(kind_of(name, &property["items"]))),
        Some("string") if property["anyOf"][0]["format"] == "ipv4" => Kind::Address,
        Some("string") if property["format"] == "date-time" || pattern.ends_with("{9}Z$") => {
            Kind::Time
        }
        Some("string") if pattern == "^[0-9a-f]{16}$" => Kind::Fixed(16),
        Some("string") if property["contentEncoding"] == "base64" => Kind::Free,
        Some("string") if FREE_TEXTS.contains(&name) => Kind::Free,
        Some("string") => Kind::Repeating,
        _ => panic!("{name} needs a kind: {property}"),
    }
}

/// The fields of a schema, whose text is `text`, in its order.
fn fields_of(schema: &Value, text: &str) -> Vec<Field> {
    #[derive(serde::Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        properties: &'a serde_json::value::RawValue,
    }
    let members: Members<'_> = serde_json::from_str(text).expect("the schema is JSON");
    let required = schema["required"].as_array().expect("a list");
    let field = |name: String| {
        let property = &schema["properties"][&name];
        let is_required = required.iter().any(|it| *it == name.as_str());
        let is_zero_told = property["minimum"] == 0 && !is_required;
        Field { kind: kind_of(&name, property), name, is_zero_told }
    };
    key_order(members.properties.get()).into_iter().map(field).collect()
}

fn records() -> Vec<Field> {
    fields_of(schema::schema(), include_str!("../docs/schema.json"))
}

fn statistics() -> Vec<Field> {
    fields_of(stats_schema::schema(), include_str!("../docs/stats.schema.json"))
}

/// The smallest of these types that holds `max`.
fn by_max(max: u64, [of_16, of_32, of_64]: [&'static str; 3]) -> &'static str {
    match max {
        0..=0xffff => of_16,
        0x1_0000..=0xffff_ffff => of_32,
        _ => of_64,
    }
}

fn clickhouse_type(field: &Field) -> String {
    fn of(kind: &Kind) -> String {
        match kind {
            Kind::Time => "DateTime64(9, 'UTC')".into(),
            Kind::Address => "IPv6".into(),
            Kind::Flag => "Bool".into(),
            Kind::Fixed(bytes) => format!("FixedString({bytes})"),
            Kind::Free | Kind::Json => "String".into(),
            Kind::Repeating => "LowCardinality(String)".into(),
            Kind::Number { max } => by_max(*max, ["UInt16", "UInt32", "UInt64"]).into(),
            Kind::List(items) => format!("Array({})", of(items)),
        }
    }
    let plain = of(&field.kind);
    if field.is_zero_told { format!("Nullable({plain})") } else { plain }
}

fn duckdb_type(kind: &Kind) -> String {
    match kind {
        Kind::Time => "TIMESTAMP_NS".into(),
        Kind::Flag => "BOOLEAN".into(),
        Kind::Address | Kind::Fixed(_) | Kind::Free | Kind::Repeating => "VARCHAR".into(),
        Kind::Number { max } => by_max(*max, ["USMALLINT", "UINTEGER", "UBIGINT"]).into(),
        Kind::List(items) => duckdb_type(items) + "[]",
        Kind::Json => "JSON".into(),
    }
}

/// A property of an index of OpenSearch. A list has the type of its items.
fn opensearch_type(field: &Field) -> Value {
    match &field.kind {
        Kind::Time => json!({ "type": "date_nanos" }),
        Kind::Address => json!({ "type": "ip" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Free if field.name.ends_with("_b64") => {
            json!({ "type": "keyword", "index": false, "doc_values": false })
        }
        Kind::Free if field.name == "target" => json!({ "type": "wildcard" }),
        Kind::Fixed(_) | Kind::Free | Kind::Repeating => json!({ "type": "keyword" }),
        Kind::Number { max } => {
            json!({ "type": by_max(*max, ["integer", "long", "unsigned_long"]) })
        }
        Kind::List(items) => opensearch_type(&Field { kind: (**items).clone(), ..field.clone() }),
        Kind::Json => json!({ "type": "object", "enabled": false }),
    }
}

const CLICKHOUSE: &str = "\
-- Tables for the lines of httplines in ClickHouse. Generated from docs/schema.json and
-- docs/stats.schema.json, which say what the columns mean. docs/queries.md says how to load lines.
--
-- An absent key is NULL where 0 is another value, and else 0, '', false or []. Headers and the
-- groups of http_stats are JSON as text, for the functions JSONExtract. IPv4 addresses are shown as
-- ::ffff:192.0.2.1. A line without ts, which is rare, has 1970.

";

const CLICKHOUSE_ONCE: &str = "
-- Each record once: the final one before partial ones, of copies the complete one with the fewest
-- gaps, of partial ones the latest:
-- SELECT ... FROM http_once(since = '2026-11-01', until = '2026-12-01')
CREATE VIEW IF NOT EXISTS http_once AS
SELECT * FROM http
WHERE ts >= {since:DateTime64(9, 'UTC')} AND ts < {until:DateTime64(9, 'UTC')}
ORDER BY partial, outcome <> 'complete', gap_bytes, active_ns DESC, sensor, iface
LIMIT 1 BY type, flow, n;
";

const DUCKDB: &str = "\
-- Tables for the lines of httplines in DuckDB. Generated from docs/schema.json and
-- docs/stats.schema.json, which say what the columns mean. docs/queries.md says how to load lines.
-- An absent key is NULL.

";

const DUCKDB_ONCE: &str = "
-- Each record once: the final one before partial ones, of copies the complete one with the fewest
-- gaps, of partial ones the latest:
-- SELECT ... FROM http_once(since := '2026-11-01', until := '2026-12-01')
CREATE OR REPLACE MACRO http_once(since, until) AS TABLE
SELECT * FROM http
WHERE ts >= CAST(since AS TIMESTAMP_NS) AND ts < CAST(until AS TIMESTAMP_NS)
QUALIFY row_number() OVER (
    PARTITION BY type, flow, n
    ORDER BY coalesce(partial, false), outcome IS DISTINCT FROM 'complete', coalesce(gap_bytes, 0),
        active_ns DESC NULLS LAST, sensor NULLS FIRST, iface NULLS FIRST
) = 1;
";

/// `CREATE TABLE`, without what follows the columns.
fn table(name: &str, fields: &[Field], type_of: impl Fn(&Field) -> String) -> String {
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {name} (\n");
    for (at, field) in fields.iter().enumerate() {
        let comma = if at + 1 < fields.len() { "," } else { "" };
        let name = &field.name;
        let quote = if RESERVED.contains(&name.as_str()) { "\"" } else { "" };
        writeln!(sql, "    {quote}{name}{quote} {}{comma}", type_of(field))
            .expect("memory takes it");
    }
    sql + ")"
}

fn clickhouse() -> String {
    let of =
        |name: &str, fields: &[Field], behind: &str| table(name, fields, clickhouse_type) + behind;
    let day = "\nENGINE = MergeTree\nPARTITION BY toDate(ts)\nORDER BY";
    let http = of("http", &records(), &format!("{day} (toStartOfHour(ts), host, ts);\n"));
    let stats = of("http_stats", &statistics(), &format!("{day} (run, seq);\n"));
    let ttl = "-- To keep 14 days: ALTER TABLE http MODIFY TTL toDateTime(ts) + INTERVAL 14 DAY;\n";
    [CLICKHOUSE, &http, ttl, CLICKHOUSE_ONCE, "\n-- The lines of http.stats.\n", &stats].concat()
}

fn duckdb() -> String {
    let of = |name: &str, fields: &[Field]| {
        table(name, fields, |field| duckdb_type(&field.kind)) + ";\n"
    };
    let (http, stats) = (of("http", &records()), of("http_stats", &statistics()));
    [DUCKDB, &http, DUCKDB_ONCE, "\n-- The lines of http.stats.\n", &stats].concat()
}

/// The body of `PUT _index_template/httplines`, with its properties in the schema's order.
fn opensearch() -> String {
    let property = |field: Field| format!("        {:?}: {}", field.name, opensearch_type(&field));
    let properties: Vec<String> = records().into_iter().map(property).collect();
    let head = r#"{
  "index_patterns": ["httplines-*"],
  "template": {
    "mappings": {
      "dynamic": false,
      "properties": {
"#;
    format!("{head}{}\n      }}\n    }}\n  }}\n}}\n", properties.join(",\n"))
}

/// A file as it is committed; first writes it, if that is asked for.
fn committed(name: &str, wanted: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, wanted).expect("docs/schema/ can be written");
        return wanted.to_string();
    }
    std::fs::read_to_string(&path).unwrap_or_default()
}

#[test]
fn the_files_are_up_to_date() {
    for (name, wanted) in [
        ("clickhouse.sql", clickhouse()),
        ("duckdb.sql", duckdb()),
        ("opensearch.json", opensearch()),
    ] {
        assert!(
            committed(name, &wanted) == wanted,
            "docs/schema/{name} is out of date; update it with: {WRITE}=1 cargo test --test main \
             schemas"
        );
    }
}

/// Read from the files, whatever made them.
#[test]
fn every_field_has_its_column() {
    let wanted = |schema: &Value| -> Vec<String> {
        let mut names: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let columns = |sql: &str, table: &str| {
        let (_, rest) = sql.split_once(&format!("CREATE TABLE IF NOT EXISTS {table} (\n")).unwrap();
        let (columns, _) = rest.split_once("\n)").expect("its end");
        let name = |line: &str| line.split_whitespace().next().expect("a name").replace('"', "");
        let mut names: Vec<String> = columns.lines().map(name).collect();
        names.sort_unstable();
        names
    };
    let sqls = [committed("clickhouse.sql", &clickhouse()), committed("duckdb.sql", &duckdb())];
    for sql in sqls {
        assert_eq!(columns(&sql, "http"), wanted(schema::schema()));
        assert_eq!(columns(&sql, "http_stats"), wanted(stats_schema::schema()));
    }
    let template = committed("opensearch.json", &opensearch());
    let template: Value = serde_json::from_str(&template).expect("JSON");
    let mappings = &template["template"]["mappings"];
    assert_eq!(wanted(mappings), wanted(schema::schema()));
    assert_eq!(mappings["dynamic"], false);
    for (name, property) in mappings["properties"].as_object().unwrap() {
        assert!(property["type"].is_string(), "{name} has no type");
    }
}

/// A number of which 0 is a value is NULL where it is absent: 0 bytes are not an unknown length,
/// and status 0 of gRPC is success.
#[test]
fn absent_is_not_zero() {
    for field in records() {
        let property = &schema::schema()["properties"][&field.name];
        let required = schema::schema()["required"].as_array().unwrap();
        let is_optional = !required.contains(&json!(field.name));
        let is_null = clickhouse_type(&field).starts_with("Nullable(");
        let is_number = property["type"] == "integer";
        assert_eq!(is_null, is_number && property["minimum"] == 0 && is_optional, "{}", field.name);
    }
    let of = |name: &str| {
        clickhouse_type(records().iter().find(|field| field.name == name).expect("a field"))
    };
    assert_eq!(of("grpc_status"), "Nullable(UInt32)");
    assert_eq!(of("response_body_bytes"), "Nullable(UInt64)");
    assert_eq!((of("status"), of("gap_bytes")), ("UInt16".into(), "UInt64".into()));
    assert_eq!((of("n"), of("ts")), ("UInt64".into(), "DateTime64(9, 'UTC')".into()));
}
