//! The keys of an object, in the order of its text.

/// The keys of the object in `text`, in order; panics if one appears twice.
pub fn key_order(text: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
            deserializer.deserialize_map(Visitor)
        }
    }
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Keys;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
            let mut keys: Vec<String> = Vec::new();
            while let Some(key) = map.next_key()? {
                map.next_value::<serde::de::IgnoredAny>()?;
                assert!(!keys.contains(&key), "the key {key} comes twice");
                keys.push(key);
            }
            Ok(Keys(keys))
        }
    }
    serde_json::from_str::<Keys>(text).expect("an object").0
}
