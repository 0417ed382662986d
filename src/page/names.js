// Names: the random numbers that make them, how they are written, and which are known.

/** Endless uniform numbers in [0, 1) for a name of a seed, a BigInt: ChaCha8, as in src/random. */
function uniforms(seed, name) {
  const key = [];
  // The key by PCG32, as rand's seed_from_u64.
  for (let state = seed; key.length < 8; ) {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 11634580027462260723n);
    const x = Number(BigInt.asUintN(32, ((state >> 18n) ^ state) >> 27n));
    key.push(rotated_left(x, -Number(state >> 59n)));
  }
  let [block, words] = [0, []];
  return () => {
    if (words.length === 0) words = [...chacha8(key, block++, name + 2)];
    const [low, high] = words.splice(0, 2);
    return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
  };
}

const rotated_left = (x, by) => (x << by) | (x >>> -by);

/** The 16 words of a block. */
function chacha8(key, block, stream) {
  const start = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, ...key, block, 0, stream, 0];
  const s = Uint32Array.from(start);
  const quarter_round = (a, b, c, d) => {
    for (const [i, j, k, by] of [[a, b, d, 16], [c, d, b, 12], [a, b, d, 8], [c, d, b, 7]]) {
      s[i] += s[j];
      s[k] = rotated_left(s[k] ^ s[i], by);
    }
  };
  for (let half_round = 0; half_round < 8; half_round++) {
    const turn = (i, by) => (half_round % 2 ? (i + by) % 4 : i) + 4 * by; // columns, diagonals
    for (let i = 0; i < 4; i++) quarter_round(i, turn(i, 1), turn(i, 2), turn(i, 3));
  }
  return s.map((word, i) => word + start[i]);
}

/** SHA-256's constants: the first bits of the cube roots of primes, k, and of the square roots. */
const SHA = { primes: [] };
for (let n = 2; SHA.primes.length < 64; n++) if (SHA.primes.every((p) => n % p)) SHA.primes.push(n);
const root_bits = (root) => SHA.primes.map((prime) => ((root(prime) % 1) * 2 ** 32) | 0);
Object.assign(SHA, { k: root_bits(Math.cbrt), h: root_bits(Math.sqrt).slice(0, 8) });

/** The first four bytes of the SHA-256 of a text in UTF-8, as a little-endian number. */
function fingerprint(text) {
  const bytes = unescape(encodeURIComponent(text));
  const blocks = Math.ceil((bytes.length + 9) / 64);
  const view = new DataView(new ArrayBuffer(64 * blocks));
  for (let i = 0; i < bytes.length; i++) view.setUint8(i, bytes.charCodeAt(i));
  view.setUint8(bytes.length, 0x80);
  view.setUint32(64 * blocks - 4, 8 * bytes.length);
  let h = SHA.h;
  for (let at = 0; at < 64 * blocks; at += 64) h = compressed(h, (i) => view.getInt32(at + 4 * i));
  view.setInt32(0, h[0]);
  return view.getUint32(0, true);
}

/** SHA-256's state after a block with these 16 words. */
function compressed(state, word) {
  const mixed = (x, ...by) => by.reduce((sum, n) => sum ^ rotated_left(x, -n), 0);
  const w = [];
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const [old, last] = [w[i - 15], w[i - 2]];
    w[i] = i < 16 ? word(i) : (w[i - 16] + w[i - 7] + (mixed(old, 7, 18) ^ (old >>> 3))
      + (mixed(last, 17, 19) ^ (last >>> 10))) | 0;
    const t = h + mixed(e, 6, 11, 25) + ((e & f) ^ (~e & g)) + SHA.k[i] + w[i];
    const u = mixed(a, 2, 13, 22) + ((a & b) ^ (a & c) ^ (b & c));
    [a, b, c, d, e, f, g, h] = [(t + u) | 0, a, b, c, (d + t) | 0, e, f, g];
  }
  return [a, b, c, d, e, f, g, h].map((word, i) => (word + state[i]) | 0);
}

/** White space and format characters around a text, as in src/data/letters.rs. */
const BLANKS = String.raw`(?:(?![\x85\u200c\u200d\u{e0020}-\u{e007f}])[\p{White_Space}\p{Cf}])+`;
const trimmed_start = (text) => text.replace(new RegExp(`^${BLANKS}`, "u"), "");
const trimmed = (text) => trimmed_start(text).replace(new RegExp(`${BLANKS}$`, "u"), "");

/** Unicode's titlecase of a letter, not yet composed: JavaScript has only its upper case. */
function titlecase(letter) {
  const [first, ...rest] = letter.toUpperCase();
  if (/[ა-ჿ]/.test(letter)) return letter; // Georgian has none
  if ("ǄǇǊǱ".includes(first)) return String.fromCodePoint(first.codePointAt(0) + 1);
  if (first === "ʼ") return first + rest.join("");
  return first + rest.join("").replace(/Ι$/, "\u0345").toLowerCase(); // iota below
}

/** A word, which is in lower case, in a style: title, upper or lower. */
function styled(word, style) {
  if (style === "upper") return word.toUpperCase();
  return style === "title" ? word.replace(/(?!\p{Lm})\p{Alphabetic}/u, titlecase) : word;
}

/** A name with each word replaced by what `write` gives for it and its position: the character
    before it, any digit as 0, or the empty text for the first word, as in src/data/capitals.rs. */
function rewritten(name, write) {
  return name.replace(/[\p{Alphabetic}\p{M}\p{Cf}]+/gu, (word, at) => {
    const before = name.slice(0, at);
    const is_first = !/[\p{Alphabetic}\p{M}\p{Cf}\p{N}]/u.test(before);
    return write(word, is_first ? "" : [...before].at(-1).replace(/\p{N}/u, "0"));
  });
}

/** A name as it is shown: trimmed, composed and, if it was learned in lower case, with capitals. */
function shown(name, spelling) {
  const text = trimmed(name.normalize("NFC"));
  if (!spelling) return text;
  const { styles, words } = spelling;
  const written = (word, position) => Object.hasOwn(words[position] ?? {}, word)
    ? words[position][word] : styled(word, styles[position]);
  return rewritten(text, written).normalize("NFC");
}

/** A text as the network reads it: composed, and in lower case if it learned so. */
function cleaned(text, is_lower) {
  const composed = text.normalize("NFC");
  return is_lower ? composed.toLowerCase().normalize("NFC") : composed;
}

/** The indices of the characters of a text; throws a sentence about the first unknown one. */
function encode(text, { vocabulary }) {
  return [...text].map((c) => {
    const index = vocabulary.indexOf(c);
    if (index <= 0) throw `The network does not know the character ${c}.`;
    return index;
  });
}

/** The start of a name as indices, in the likeliest of the cases in which it may be written. */
function encode_prefix(text, model) {
  // With a letter after it, a capital sigma at its end does not become the final sigma.
  const lower = cleaned(`${text}a`, true).slice(0, -1);
  const first = (word, position) => styled(word, position === "" ? "title" : "lower");
  const title = (word) => styled(word, "title");
  const cases = model.spelling ? [lower]
    : [text, lower, rewritten(lower, first), rewritten(lower, title), lower.toUpperCase()];
  const starts = cases.map((start) => trimmed_start(start.normalize("NFC")));
  const known = starts.filter((start) => [...start].every((c) => model.vocabulary.includes(c)));
  const indices = (known.length ? known : starts).map((start) => encode(start, model));
  const log_p = (name) => sum_of(log_probabilities(rnn_forward(model.parameters, name), name));
  return indices.reduce((one, other) => (log_p(other) > log_p(one) ? other : one));
}

/** The text of indices. */
const decode = (indices, { vocabulary }) => indices.map((index) => vocabulary[index]).join("");

/** The names of a seed, as `char-rnn sample` prints them: until there are `count`, or a million and
    100 for each of `count` are made; at temperature 0 all are the same. Yields after each that it
    makes: a name or, where it is empty or, with `only_new`, cut off or known, null. */
function* sample_until(model, { seed, count, only_new, ...options }) {
  const limit = options.temperature > 0 ? 1e6 + 100 * count : only_new ? 1 : count;
  for (let number = 0, found = 0; found < count && number < limit; number++) {
    const made = sample(model.parameters, options, uniforms(seed, number));
    const name = shown(decode(made.indices, model), model.spelling);
    const print = () => fingerprint(name.toUpperCase().normalize("NFC"));
    const known = only_new && (!made.ended || model.known.has(print()));
    const is_found = name !== "" && !known;
    found += is_found;
    yield is_found ? { name, ended: made.ended } : null;
  }
}

/** The model in the page's data. */
function model_of(data) {
  const known = new Set(data.run ? numbers(data.run.known, Uint32Array) : []);
  return { ...data, parameters: parameters_of(data), vocabulary: [...data.vocabulary], known };
}
