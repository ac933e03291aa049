use super::Report;
pub fn render(_: &Report) -> String {
    String::new()
}
