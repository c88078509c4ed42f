// YAML with positions, and diagnostics rendered with the offending line.
import { describe, expect, it } from 'vitest';
import { renderDiagnostic, renderDiagnostics } from '../../../src/scenario/file/diagnostic.ts';
import { type Path, readSource, type Source } from '../../../src/scenario/file/source.ts';

function sourceOf(text: string): Source {
  const { source, diagnostics } = readSource('a.yaml', text);
  if (source === undefined) throw new Error(renderDiagnostics(diagnostics));
  return source;
}

describe('a source', () => {
  it('keeps integers exact: a number where that is safe, a bigint beyond', () => {
    const { value } = sourceOf('{a: 1, b: 0x1000, c: 0xffffffffffffffff, d: 1.5, e: 9007199254740991}');
    expect(value).toEqual({ a: 1, b: 4096, c: 0xffffffffffffffffn, d: 1.5, e: 9007199254740991 });
  });

  it.each<[Path, 'key' | 'value', number, number]>([
    [['ram', 'size'], 'value', 2, 9],
    [['ram', 'size'], 'key', 2, 3],
    [['steps', 1, 'wait'], 'value', 5, 12],
    [['steps', 1], 'value', 5, 5],
    [['ram', 'nowhere', 'deep'], 'value', 1, 1],
    [['steps'], 'key', 3, 1],
  ])('finds %j (%s) at line %i, column %i', (path, part, line, column) => {
    const source = sourceOf('ram:\n  size: 4KiB\nsteps:\n  - touch: {}\n  - {wait: vmm}\n');
    expect(source.where(path, part)).toEqual({ file: 'a.yaml', line, column });
  });

  it('follows aliases, and points at the anchor for what is inside', () => {
    const source = sourceOf('a: &x {size: 1}\nb: *x\n');
    expect(source.get(['b', 'size'])).toBe(1);
    expect(source.where(['b', 'size'])).toEqual({ file: 'a.yaml', line: 1, column: 14 });
    expect(source.where(['b'])).toEqual({ file: 'a.yaml', line: 2, column: 4 });
  });

  it('ignores a byte order mark and Windows line ends', () => {
    const source = sourceOf('\uFEFFa: 1\r\nb: x\r\n');
    expect(source.diagnostic(['b'], { message: 'm' }).text).toBe('b: x');
    expect(source.where(['a'])).toEqual({ file: 'a.yaml', line: 1, column: 4 });
  });

  it('a key named __proto__ is a key like any other', () => {
    expect(Object.keys(sourceOf('__proto__: {a: 1}').value as object)).toEqual(['__proto__']);
  });

  it.each([
    ['', 'a.yaml:1:1: error: this file is empty'],
    ['# only a comment\n', 'a.yaml:1:1: error: this file is empty'],
    ['a: 1\na: 2\n', 'a.yaml:2:1: error: Map keys must be unique'],
    ['a: [1, 2\nb: 3\n', 'a.yaml:2:1: error: Flow sequence in block collection must be sufficiently indented'],
    ['a: *x\n', 'a.yaml:1:4: error: no anchor &x'],
    ['a: &x [*x]\n', 'a.yaml:1:8: error: *x contains itself'],
    ['? [a]\n: 1\n', 'a.yaml:1:3: error: this key is not a name'],
    ['a: 1\n---\nb: 1\n', 'a.yaml:2:1: error: a second YAML document begins here: a file holds one scenario'],
    ['a: !mine x\n', 'a.yaml:1:4: error: Unresolved tag: !mine'],
  ])('refuses %j', (text, headline) => {
    const { source, diagnostics } = readSource('a.yaml', text);
    expect(source).toBeUndefined();
    expect(renderDiagnostic(diagnostics[0]!).split('\n')[0]).toContain(headline);
  });

  it('refuses nesting that no parser survives', () => {
    const { diagnostics } = readSource('a.yaml', `a: ${'['.repeat(20000)}`);
    expect(diagnostics[0]?.message).toBe('this file is nested too deeply');
  });

  it('reports every syntax error of a file', () => {
    const { diagnostics } = readSource('a.yaml', 'a: 1\na: 2\nb: 1\nb: 2\n');
    expect(diagnostics.map((diagnostic) => diagnostic.where?.line)).toEqual([2, 4]);
  });

  it('does not let aliases multiply without bound', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 9; i++)
      lines.push(`a${i}: &a${i} [${Array.from({ length: 10 }, () => `*a${i - 1}`).join(', ')}]`);
    const { diagnostics } = readSource('a.yaml', lines.join('\n'));
    expect(diagnostics.map((diagnostic) => diagnostic.message)).toEqual(['this file has more than 500000 values']);
  });
});

describe('a diagnostic', () => {
  it('shows the line, underlines the offending text and says what to try', () => {
    const source = sourceOf('title: x\nmemory:\n  ram: {kind: anon, siez: 16MiB}\n');
    const diagnostic = source.diagnostic(
      ['memory', 'ram', 'siez'],
      { message: 'unknown key `siez`', expected: '`kind` or `size`', hint: 'did you mean `size`?' },
      'key',
    );
    expect(renderDiagnostic(diagnostic)).toBe(
      [
        'a.yaml:3:21: error: unknown key `siez`',
        '  3 |   ram: {kind: anon, siez: 16MiB}',
        '    |                     ^^^^',
        '    = expected: `kind` or `size`',
        '    = help: did you mean `size`?',
      ].join('\n'),
    );
  });

  it('keeps the caret under the text behind tabs', () => {
    const rendered = renderDiagnostic(sourceOf('{"a":\t[1,\t22]}').diagnostic(['a', 1], { message: 'm' }));
    expect(rendered).toBe('a.yaml:1:11: error: m\n  1 | {"a":\t[1,\t22]}\n    |      \t   \t^^');
  });

  it('underlines a value of several lines to the end of its first', () => {
    const rendered = renderDiagnostic(sourceOf('a:\n  b: 1\n  c: 2\n').diagnostic(['a'], { message: 'm' }));
    expect(rendered).toBe('a.yaml:2:3: error: m\n  2 |   b: 1\n    |   ^^^^');
  });

  it('cuts a long line around the mistake', () => {
    const text = `{x: ${'a'.repeat(300)}, here: 1, y: ${'b'.repeat(300)}}`;
    const [, line = '', caret = ''] = renderDiagnostic(
      sourceOf(text).diagnostic(['here'], { message: 'm' }, 'key'),
    ).split('\n');
    expect(line.length).toBeLessThan(130);
    expect(line.slice(caret.indexOf('^'), caret.lastIndexOf('^') + 1)).toBe('here');
  });

  it('shows control characters as pictures, in their columns', () => {
    const source = sourceOf('a: 1\nb\x1b[31m\x7f\x9b: 1\n');
    const what = { message: 'unknown key `b\x1b[31m`\n', hint: 'not \x07' };
    expect(renderDiagnostic(source.diagnostic(['b\x1b[31m\x7f\x9b'], what, 'key'))).toBe(
      [
        'a.yaml:2:1: error: unknown key `b␛[31m`␊',
        '  2 | b␛[31m␡\uFFFD: 1',
        '    | ^^^^^^^^',
        '    = help: not ␇',
      ].join('\n'),
    );
  });

  it('quotes only the beginning of a long value', () => {
    const long = 'x'.repeat(2000);
    const rendered = renderDiagnostic({ message: `\`${long}\` is no \`size\` at all` });
    expect(rendered).toBe(`error: \`${'x'.repeat(57)}...\` is no \`size\` at all`);
  });

  it('without a place is one line and its help', () => {
    expect(renderDiagnostic({ message: 'no such kernel', hint: 'did you mean `v6.1`?' })).toBe(
      'error: no such kernel\n   = help: did you mean `v6.1`?',
    );
  });
});
