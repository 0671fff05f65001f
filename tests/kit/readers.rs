//! Reads what nodebake has written as its readers do, without nodebake's own code.

/// The variables of `Environment=` lines as systemd.exec(5) and systemd.syntax(7) read them: C escapes in quotes, `%%`
/// for a percent sign, a backslash at the end of a line joins it with the next.
pub fn environment(unit: &str) -> Vec<(String, String)> {
    let unit = unit.replace("\\\n", " ");
    let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    let words = lines.flat_map(unquote);
    words
        .filter_map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// The variables of an EnvironmentFile= as systemd.exec(5) reads it, as far as each value is in double quotes: a backslash
/// stands before `"`, `\\`, a backtick or `$`, and for itself before anything else.
pub fn environment_file(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines
        .map(|line| {
            let (name, value) = line.split_once("=\"").unwrap();
            let (mut chars, mut read) = (value.chars(), String::new());
            loop {
                match chars.next().expect("the quote is closed") {
                    '"' => break,
                    '\\' => match chars.next().unwrap() {
                        c @ ('"' | '\\' | '`' | '$') => read.push(c),
                        c => read.extend(['\\', c]),
                    },
                    c => read.push(c),
                }
            }
            assert_eq!(chars.as_str(), "", "behind the quote in {line}");
            (name.to_owned(), read)
        })
        .collect()
}

fn unquote(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut open) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().expect("no backslash ends a line") {
                'n' => word.push('\n'),
                't' => word.push('\t'),
                's' => word.push(' '),
                'x' => {
                    let digits: String = chars.by_ref().take(2).collect();
                    word.push(char::from(u8::from_str_radix(&digits, 16).unwrap()));
                }
                other @ ('"' | '\'' | '\\') => word.push(other),
                other => panic!("systemd refuses the escape \\{other}"),
            },
            '%' => {
                assert_eq!(chars.next(), Some('%'), "an unescaped specifier in {line}");
                word.push('%');
            }
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => (quote, open) = (Some(c), true),
            c if c.is_whitespace() && quote.is_none() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => word.push(c),
        }
    }
    assert_eq!(quote, None, "an unclosed quote in {line}");
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The `name = value` lines as sysctl.d(5) reads them: white space is that of ASCII.
pub fn settings(text: &str) -> Vec<(String, String)> {
    let bare = |text: &str| text.trim_matches([' ', '\t', '\r']).to_owned();
    let lines = text.split('\n').map(bare).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines.map(|line| line.split_once('=').map(|(name, value)| (bare(name), bare(value))).unwrap()).collect()
}
