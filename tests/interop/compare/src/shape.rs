//! The items that are sealed and opened.

use serde_json::{Map, Value as Json, json};

/// Attributes of an item, all strings.
pub struct Shape {
    /// How the table calls it.
    pub name: &'static str,
    encrypted: usize,
    bytes: usize,
    signed: usize,
}

/// What is measured.
pub const SHAPES: [Shape; 3] = [
    Shape { name: "5 x 40 B encrypted, 3 signed", encrypted: 5, bytes: 40, signed: 3 },
    Shape { name: "1 x 4 KB encrypted", encrypted: 1, bytes: 4096, signed: 1 },
    Shape { name: "20 x 100 B encrypted", encrypted: 20, bytes: 100, signed: 1 },
];

impl Shape {
    /// A job for these items; the key comes from the environment.
    pub fn job(&self, suite: &str) -> String {
        let actions: Vec<String> = self.names().map(|(name, action)| format!("{name} = \"{action}\"")).collect();
        let actions = actions.join("\n");
        format!(
            "version = 1\n[table]\nname = \"benchmark\"\npartition_key = \"id\"\n[attributes]\n{actions}\n\
             [target]\nformat = \"dbesdk\"\nsuite = \"{suite}\"\n\
             keyring = {{ type = \"raw-aes\", namespace = \"benchmark\", name = \"key\", key_env = \"BENCHMARK_KEY\" }}\n"
        )
    }

    /// One of the items; its values differ from those of the others.
    pub fn item(&self, index: usize) -> Json {
        let value = |name: &str| match name {
            "id" => format!("customer-{index:08}"),
            _ => (0..self.bytes).map(|at| char::from(b'a' + ((at * 7 + index) % 26) as u8)).collect(),
        };
        Json::Object(self.names().map(|(name, _)| (name.clone(), json!({ "S": value(&name) }))).collect::<Map<_, _>>())
    }

    /// Attribute names and actions. The key counts among the signed ones.
    fn names(&self) -> impl Iterator<Item = (String, &'static str)> {
        let encrypted = (0..self.encrypted).map(|i| (format!("secret_{i}"), "ENCRYPT_AND_SIGN"));
        let signed = (1..self.signed).map(|i| (format!("plain_{i}"), "SIGN_ONLY"));
        std::iter::once(("id".to_owned(), "SIGN_ONLY")).chain(encrypted).chain(signed)
    }
}
