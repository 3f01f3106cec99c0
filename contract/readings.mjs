// What does it say? Reads the tables of a batch: a matrix each, a tag a line, and what made it small undone.
const PRESENT = {
  1: (number) => number === 1n, // BOOL
  2: (number) => number, // INT64
  3: (number) => BigInt.asUintN(64, number), // UINT64
  4: (number, form) => Number(number) / 10 ** form, // FLOAT64
};
const int = (number) => BigInt(number.toString());

// Undoes differences; integers have 64 bits.
function sums(line) {
  let sum = 0n;
  return line.map((each) => (sum = BigInt.asIntN(64, sum + each)));
}

// Yields the lines of a matrix.
function* lines(column, rows) {
  for (let first = 0; first < column.length; first += rows) yield column.slice(first, first + rows);
}

// Yields [device, tag, ns since 1970 UTC, value, quality, revision]; `tags` holds [device, tag] by "gateway id".
export function* readings(batch, tags) {
  for (const table of batch.tables) {
    const times = [...lines(table.times.map(int), table.rows)]; // one line for all tags, or a line each
    const revised = table.revisions.flatMap((run) => Array(run.count).fill(run.revision));
    const revisions = lines(revised.length ? revised : Array(table.rows * table.tags.length).fill(0), table.rows);
    const qualities = lines(table.quality.flatMap((run) => Array(run.count).fill(run.code)), table.rows);
    const integers = lines(table.integers.map(int), table.rows);
    const [singles, doubles] = [table.singles, table.doubles].map((each) => lines(each, table.rows));
    for (const [place, id] of sums(table.tags.map(int)).entries()) {
      const [device, tag] = tags.get(`${batch.gateway} ${id}`);
      const form = table.forms[place];
      const own = place % times.length;
      let at = sums([times[own][0], ...sums(times[own].slice(1))]);
      if (table.paces.length) {
        const [start, pace] = [int(table.starts[own]), int(table.paces[own])];
        at = times[own].map((offset, k) => start + BigInt(k) * pace + offset);
      }
      let values;
      if (form === 32 || form === 64) values = (form === 32 ? singles : doubles).next().value;
      else if (form === 100) values = sums(integers.next().value).map((number) => batch.texts[Number(number)]);
      else values = sums(integers.next().value).map((number) => PRESENT[tag.kind](number, form));
      const quality = qualities.next().value;
      const revision = revisions.next().value;
      for (const [k, value] of values.entries())
        yield [device, tag, at[k] * int(table.time_unit), value, quality[k], revision[k]];
    }
  }
}
