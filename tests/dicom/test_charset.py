"""Text in all character sets: the standard's own examples (PS3.5 H to K) and what writers make of them."""

from __future__ import annotations

import pytest

from dicomhub.dicom.charset import character_set

EXAMPLES = [
    # Specific Character Set, bytes, text
    ("ISO_IR 100", "Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    ("ISO_IR 101", "Wa\xb3\xeasa", "Wałęsa"),
    ("ISO_IR 144", "\xbb\xee\xdace\xdc\xd1\xe3\xe0\xd3", "Люкceмбург"),
    ("ISO_IR 127", "\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    ("ISO_IR 126", "\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    ("ISO_IR 138", "\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    ("ISO_IR 13", "\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("ISO_IR 166", "\xc7\xd1\xb9\xb7\xd5\xe8", "วันที่"),
    ("ISO_IR 192", "Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe4\xb8\x9c", "Wang^XiaoDong=王^小东"),
    ("GB18030", "Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东"),
    ("GBK", "Zhang=\xd5\xc5", "Zhang=张"),
    (
        "\\ISO 2022 IR 87",
        "Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        "\\ISO 2022 IR 149",
        "Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    ("\\ISO 2022 IR 58", "Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
    ("ISO 2022 IR 6\\ISO 2022 IR 159", "=\x1b$(D0!\x1b(B", "=丂"),
    # Two single-byte sets: the second until a delimiter
    ("ISO 2022 IR 100\\ISO 2022 IR 144", "J\xe9r^\x1b-L\xbb\xee^\xe9", "Jér^Лю^é"),
    # Japanese in the lower half, then katakana still in the upper one
    ("ISO 2022 IR 13\\ISO 2022 IR 87", "\x1b$B;3\x1b(J\xd4", "山ﾔ"),
]


@pytest.mark.parametrize(("name", "raw", "text"), EXAMPLES, ids=[f"{e[0]}-{i}" for i, e in enumerate(EXAMPLES)])
def test_names_are_decoded(name: str, raw: str, text: str) -> None:
    assert character_set(name.encode()).decode(raw.encode("latin-1"), is_name=True) == text


def test_the_initial_set_returns_after_a_line_or_value() -> None:
    extended = character_set(b"ISO 2022 IR 100\\ISO 2022 IR 144")
    assert extended.decode(b"\x1b-L\xbb\r\n\xe9\\\xe9") == "Л\r\né\\é"
    assert extended.decode(b"\x1b-L\xbb^\xee") == "Л^ю"  # a caret is only a delimiter in names


@pytest.mark.parametrize(
    ("written", "raw", "text"),
    [
        (b"ISO_IR_192", b"\xc3\xa9", "é"),
        (b"UTF-8", b"\xc3\xa9", "é"),
        (b"ISO-IR 144", b"\xbb", "Л"),
        (b"ISO 8859-5", b"\xbb", "Л"),
        (b"ISO IR 100 ", b"\xe9", "é"),
        (b"", b"\xe9", "é"),
        (b"no such set", b"\xe9", "é"),
        (b"GB18030\\ISO 2022 IR 58", b"\xcd\xf5", "王"),
    ],
)
def test_what_writers_mean_is_understood(written: bytes, raw: bytes, text: str) -> None:
    assert character_set(written).decode(raw) == text


def test_text_in_a_wrong_set_is_replaced() -> None:
    assert character_set(b"ISO_IR 192").decode(b"J\xe9r") == "J\ufffdr"
