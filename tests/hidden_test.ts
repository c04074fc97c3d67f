/** Which characters of fetched files count as hidden and which do not, one case per line. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { hiddenCharacters } from "../use-skills.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);
const tags = (text: string) => text.replace(/./gs, (tag) => String.fromCodePoint(0xE0000 + tag.charCodeAt(0)));
const flag = (name: string) => "\u{1F3F4}" + tags(`${name}\x7F`);

/** `line:column code point kind` of each. */
const hits = (bytes: Uint8Array, isText?: boolean) =>
  hiddenCharacters(bytes, isText).map(({ line, column, character, kind }) => {
    const codePoint = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
    return `${line}:${column} ${codePoint} ${kind.split(" ")[0]}`;
  });

const ROWS: [name: string, text: string, ...expected: string[]][] = [
  ["finds none in plain text", "# A\tskill\r\n\fwith ~ all {of} ASCII\n"],
  ["finds none in nothing", ""],
  ["leaves what is visible", "“Ünïcode” — naïve → 日本語 اردو עברית हिन्दी 한국어 ไทย ½ € \u00A0\u2009\u3000\u202F⠀"],
  ["leaves characters newer than it", "\u{1FAFF}\u0378"],

  ["finds tag characters", `a${tags("hi")}b`, "1:2 E0068 tag", "1:3 E0069 tag"],
  ["finds the language tag", "\u{E0001}", "1:1 E0001 tag"],
  ["leaves the three flags", `${flag("gbeng")}${flag("gbsct")} ${flag("gbwls")}`],
  ["finds tags after a flag", `${flag("gbsct")}${tags("x")}`, "1:8 E0078 tag"],
  ["finds tags in a flag that nobody draws", flag("ustx").slice(0, 6), "1:2 E0075 tag", "1:3 E0073 tag"],
  ["finds tags in a flag without an end", "\u{1F3F4}" + tags("gb"), "1:2 E0067 tag", "1:3 E0062 tag"],
  ["finds tags in a flag of another base", "🏳" + tags("g"), "1:2 E0067 tag"],
  [
    "finds unassigned ignorable ones",
    "\u{E0FFF}\u2065\uFFF0",
    "1:1 E0FFF invisible",
    "1:2 2065 invisible",
    "1:3 FFF0 invisible",
  ],

  [
    "finds embeddings and overrides",
    "\u202Ax\u202Ey\u202C",
    "1:1 202A bidirectional",
    "1:3 202E bidirectional",
    "1:5 202C bidirectional",
  ],
  ["finds isolates, in Hebrew too", "א\u2066ב\u2069", "1:2 2066 bidirectional", "1:4 2069 bidirectional"],
  ["leaves marks close to Hebrew and Arabic", "ב-C++\u200E הוא\nمرحبا!\u200F\n5\u061C ع"],
  [
    "finds marks in other text",
    "a\u200Eb\u200F\u061C",
    "1:2 200E bidirectional",
    "1:4 200F bidirectional",
    "1:5 061C bidirectional",
  ],
  ["finds marks in the line after Hebrew", "א\n\u200Ea", "2:1 200E bidirectional"],
  ["finds marks far from Hebrew", `א${" ".repeat(21)}\u200E`, "1:23 200E bidirectional"],
  ["finds runs of marks in Hebrew", "א\u200E\u200Fב", "1:2 200E bidirectional", "1:3 200F bidirectional"],

  ["finds zero-width spaces", "a\u200Bb", "1:2 200B zero-width"],
  ["leaves zero-width spaces in Thai and Khmer", "ภาษา\u200Bไทย ភាសា\u200Bខ្មែរ"],
  ["finds runs of them in Thai", "ก\u200B\u200B\u200Bข", "1:3 200B zero-width"],
  ["finds joiners between Latin letters", "a\u200Cb\u200Dc", "1:2 200C zero-width", "1:4 200D zero-width"],
  ["leaves non-joiners in Persian", "می‌شود API‌ها «سلام»‌ها اً‌"],
  ["leaves joiners in Indic scripts", "क्‍ष र्‍य অ‌ন്‍ ශ්‍රී ಕ್‌ಷ"],
  ["finds runs of joiners", "م\u200C\u200D\u200Cم", "1:3 200D zero-width"],
  ["leaves joiners in emoji", "👩‍💻 👨‍👩‍👧‍👦 ❤️‍🔥 🏳️‍🌈 🏴‍☠️ 🧑🏽‍🦰 🚶🏻‍♀️‍➡️"],
  ["finds joiners at the end of emoji", "👩\u200D b", "1:2 200D zero-width"],
  ["finds joiners before emoji", "a\u200D👩", "1:2 200D zero-width"],
  ["finds doubled joiners in emoji", "👩\u200D\u200D💻", "1:2 200D zero-width", "1:3 200D zero-width"],
  [
    "finds word joiners and invisible operators",
    "\u2060f\u2061x\u2062y\u2063z\u2064",
    ..."2060 2061 2062 2063 2064".split(" ").map((code, n) => `1:${2 * n + 1} ${code} zero-width`),
  ],
  ["leaves a byte order mark", "\uFEFFa"],
  ["finds a second and a later byte order mark", "\uFEFF\uFEFFa\n\uFEFF", "1:1 FEFF zero-width", "2:1 FEFF zero-width"],

  ["leaves variation selectors of emoji", "❤️ ☺︎ 1️⃣ #️⃣ ⚠️ ©️ 👁️‍🗨️"],
  ["finds variation selectors after letters", "a\uFE0F b\uFE01", "1:2 FE0F variation", "1:5 FE01 variation"],
  ["finds variation selectors that hold data", "😀\uFE0F\uFE01\u{E0101}", "1:3 FE01 variation", "1:4 E0101 variation"],
  ["finds a selector for ideographs after emoji", "😀\u{E0101}", "1:2 E0101 variation"],
  ["leaves variants of ideographs and signs", "葛\u{E0100}城 辻\u{E0101} 神\uFE00 ∩\uFE00 မ\uFE00"],
  ["finds variants that no ideograph has", "葛\u{E0120}\u{E0100}", "1:2 E0120 variation", "1:3 E0100 variation"],
  ["leaves Mongolian selectors and separators", "ᠮᠣᠩᠭ᠋ᠣᠯ ᠬ᠎ᠠ"],
  ["finds Mongolian ones elsewhere", "a\u180B\u180E", "1:2 180B variation", "1:3 180E invisible"],

  ["finds soft hyphens and the grapheme joiner", "a\u00ADb\u034F", "1:2 00AD invisible", "1:4 034F invisible"],
  [
    "finds Hangul fillers",
    "\u3164\uFFA0 \u115F\u1160",
    "1:1 3164 invisible",
    "1:2 FFA0 invisible",
    "1:4 115F invisible",
    "1:5 1160 invisible",
  ],
  ["leaves fillers in old Korean", "\u1100\u1160\u11A8 \u115F\u1161"],
  ["finds Khmer inherent vowels", "ក\u17B4", "1:2 17B4 invisible"],
  [
    "finds separators and annotations",
    "\u2028\u2029\uFFF9a\uFFFAb\uFFFB",
    "1:1 2028 invisible",
    "1:2 2029 invisible",
    "1:3 FFF9 invisible",
    "1:5 FFFA invisible",
    "1:7 FFFB invisible",
  ],
  [
    "finds controls of music, shorthand and hieroglyphs",
    "\u{1D173}\u{1BCA0}\u{13430}",
    "1:1 1D173 invisible",
    "1:2 1BCA0 invisible",
    "1:3 13430 invisible",
  ],
  [
    "finds private use",
    "\uE0A0\u{F0000}\u{10FFFD}",
    "1:1 E0A0 private-use",
    "1:2 F0000 private-use",
    "1:3 10FFFD private-use",
  ],
  [
    "finds control characters",
    "\x1B[2K\b\x7F\v\x9B",
    "1:1 001B control",
    "1:5 0008 control",
    "1:6 007F control",
    "1:7 000B control",
    "1:8 009B control",
  ],

  ["finds a carriage return that overwrites a line", "Do evil\rDo good\n", "1:8 000D carriage"],
  ["leaves a carriage return that overwrites nothing", "a\r"],
  ["finds carriage returns in a row", "a\r\r\n", "1:2 000D carriage"],
  ["leaves a few unusual spaces", "a\u2003\u2003b\u2009%\u2002\u2003 ⠀⠀x"],
  ["finds a run of unusual spaces", `a${"\u2003\u2002\u200A\u2000"}b`, "1:2 2003 run"],
  ["finds a run of empty braille patterns", "a⠀⠀⠀⠀b ⠿⠀⠿", "1:2 2800 run"],
  ["finds a run of both", "\u2000⠀\u2001", "1:1 2000 run"],

  ["counts lines of Windows", "a\r\nb\r\n\u200B", "3:1 200B zero-width"],
  ["counts no byte order mark", "\uFEFFab\u200B", "1:3 200B zero-width"],
  ["counts characters, not units", "😀𝒳é\u200B 漢\u200B", "1:4 200B zero-width", "1:7 200B zero-width"],
  [
    "goes on counting in the line",
    "\u200Ba\u200B\n\u200B",
    "1:1 200B zero-width",
    "1:3 200B zero-width",
    "2:1 200B zero-width",
  ],
  ["finds what follows a NUL", "\0a\u200B\x1B", "1:3 200B zero-width"],
];

const bytesOf = (...parts: (string | number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => typeof part === "string" ? [...utf8(part)] : part));
const utf16 = (text: string, little: boolean) =>
  Uint8Array.from(
    text.split("").flatMap((unit) => {
      const code = unit.charCodeAt(0);
      return little ? [code & 255, code >> 8] : [code >> 8, code & 255];
    }),
  );
/** The same bytes at every run, spread as compressed ones are. */
const compressed = (length: number) => {
  let seed = 1;
  return Array.from({ length }, () => (seed = Math.imul(seed, 1664525) + 1013904223 | 0) >>> 24);
};

describe("hiddenCharacters()", () => {
  for (const [name, text, ...expected] of ROWS) it(name, () => assertEquals(hits(utf8(text)), expected));

  it("is not misled by a byte that is not UTF-8", () =>
    assertEquals(hits(bytesOf("caf", [0xE9], "\u200B")), ["1:5 200B zero-width"]));
  it("is not misled by NULs without end", () =>
    assertEquals(hits(bytesOf("\u200B", new Array(9000).fill(0))), ["1:1 200B zero-width"]));
  it("is not misled by NULs at the beginning", () =>
    assertEquals(hits(bytesOf(new Array(9000).fill(0), "\u200B")), ["1:9001 200B zero-width"]));
  for (const little of [true, false]) {
    it(`reads UTF-16, ${little ? "little" : "big"} end first`, () =>
      assertEquals(hits(utf16("\uFEFFa\n😀\u200B", little)), ["2:2 200B zero-width"]));
    it(`reads UTF-16 without a byte order mark, ${little ? "little" : "big"} end first`, () =>
      assertEquals(hits(utf16("Do good\u200B\n", little)), ["1:8 200B zero-width"]));
    it(`finds none in plain UTF-16 without a byte order mark, ${little ? "little" : "big"} end first`, () =>
      assertEquals(hits(utf16("Do good, naïve\r\n", little)), []));
  }
  for (const mark of [[0xFF, 0xFE], []]) {
    it(`is not misled by what only looks like UTF-16 with the mark [${mark}]`, () => {
      const looks = bytesOf(mark, "a\0".repeat(2048).slice(mark.length), tags("hi"));
      assertEquals(hits(looks).slice(-2), ["1:4097 E0068 tag", "1:4098 E0069 tag"]);
    });
  }
  it("is not misled by a byte order mark in front of UTF-8", () =>
    assertEquals(hits(bytesOf([0xFF, 0xFE], "\0".repeat(91), "a\u200Bb\x1Bc\rd\u00ADe\0\uE000")), [
      "1:95 200B zero-width",
      "1:97 001B control",
      "1:99 000D carriage",
      "1:101 00AD invisible",
      "1:104 E000 private-use",
    ]));
  it("finds those in UTF-16 also if its bytes look like other data", () =>
    assertEquals(hits(bytesOf([...utf16("\uFEFF\u200B", true)], compressed(9000)))[0], "1:1 200B zero-width"));
  it("finds a carriage return before a NUL", () =>
    assertEquals(hits(utf8("Do it\r\0not\r\0\n")), ["1:6 000D carriage"]));
  it("finds none in a font, whose numbers have two bytes", () => {
    const numbers = (limit: number) =>
      compressed(4000).flatMap((byte, index) => index % 8 === 0 ? [byte, byte] : [0, byte % limit]);
    assertEquals(hits(bytesOf(numbers(128))), []);
    assertEquals(hits(bytesOf(numbers(32))), []);
  });
  it("is not misled by control characters", () =>
    assertEquals(hits(bytesOf(`#${"\x01".repeat(8000)}\n\0\u200B`)).at(-1), "2:2 200B zero-width"));
  it("finds none in what is not text", () => assertEquals(hits(bytesOf(compressed(200_000))), []));
  it("finds some in what does not look like text, but is read as text", () =>
    assertEquals(hits(bytesOf(new Array(8000).fill(0xFF), "\0\n\u200B"), true), ["2:1 200B zero-width"]));
  it("finds control characters after a NUL in what is read as text", () =>
    assertEquals(hits(utf8("Do it\0\x1B"), true), ["1:7 001B control"]));
  it("finds none in data inside of text", () =>
    assertEquals(hits(bytesOf("%PDF-1.4\n".repeat(2000), compressed(200_000))), []));
  it("finds what is in text before data", () =>
    assertEquals(hits(bytesOf("%PDF-1.4\n".repeat(2000), "\u200B", " ".repeat(64), compressed(9000))), [
      "2001:1 200B zero-width",
    ]));
  it("finds a run of them in data", () =>
    assertEquals(hits(bytesOf(new Array(40).fill(0xFF), tags("run"), tags("!"))).length, 4));
  it("finds tags one by one in text that ends like data", () => {
    const text = `Read ${tags("all").split(/(?:)/u).join("r")} of it. `;
    const end = "\0" + "\x01".repeat(30);
    assertEquals(hits(bytesOf(text.repeat(4), " ".repeat(64), new Array(18).fill(0xFF), end)).length, 12);
  });
  it("finds tags in text after data", () =>
    assertEquals(hits(bytesOf(compressed(9000), `\n${" ".repeat(64)}${tags("run it now")}`)).length, 10));
  it("finds none in a program with a list of flags", () => {
    const list = [flag("gbeng"), flag("gbsct"), flag("gbwls")].join("\0");
    assertEquals(hits(bytesOf(compressed(9000), list, "\0".repeat(64), "usage:\ra\u200Bb\n".repeat(9))), []);
  });
  it("stops after 100", () => assertEquals(hits(utf8("\u200B".repeat(1000))).length, 100));
});
