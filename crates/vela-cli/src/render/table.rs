use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::printable;

/// Columns under upper-case heads, with no lines: easy to read, easy to cut.
pub(crate) fn table<const N: usize>(
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heads.map(str::to_uppercase));
    for row in rows {
        table.add_row(row.map(|cell| match cell.is_empty() {
            // An empty cell would shift the columns for `awk`.
            true => "-".to_owned(),
            false => printable(&cell).into_owned(),
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_never_empty() {
        let text = table(
            ["name", "release"],
            [
                ["blog".to_owned(), "20260305-143022".to_owned()],
                ["a-longer-name".to_owned(), String::new()],
            ],
        );
        assert_eq!(
            text,
            "NAME           RELEASE\nblog           20260305-143022\na-longer-name  -"
        );
    }
}
