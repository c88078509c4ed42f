// Reads the XML that reports write, strictly: one root, tags closed in order, quoted attributes, no stray characters.

export interface XmlNode {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: XmlNode[];
  text: string;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"' };

export class XMLParser {
  private rest: string;

  constructor(text: string) {
    this.rest = text.replace(/^<\?xml version="1\.0" encoding="UTF-8"\?>\n/, '');
    if (this.rest === text) throw new Error('no XML declaration');
  }

  parse(): XmlNode {
    const root = this.element();
    if (this.rest.trim() !== '') throw new Error(`after the end: ${this.rest.slice(0, 40)}`);
    return root;
  }

  private take(pattern: RegExp): RegExpExecArray {
    const match = pattern.exec(this.rest);
    if (match?.index !== 0) throw new Error(`expected ${pattern} at: ${this.rest.slice(0, 60)}`);
    this.rest = this.rest.slice(match[0].length);
    return match;
  }

  private element(): XmlNode {
    const [, name, attributes, empty] = this.take(/\s*<([a-z]+)((?:\s+[a-z]+="[^"<]*")*)\s*(\/?)>/);
    const node: XmlNode = { name: name!, attributes: {}, children: [], text: '' };
    for (const [, key, value] of attributes!.matchAll(/([a-z]+)="([^"]*)"/g))
      (node.attributes as Record<string, string>)[key!] = plain(value!);
    if (empty === '/') return node;
    for (;;) {
      node.text += plain(this.take(/[^<]*/)[0]);
      if (this.rest.startsWith('</')) break;
      node.children.push(this.element());
    }
    this.take(new RegExp(`</${name}>`));
    return node;
  }
}

function plain(text: string): string {
  return text.replace(/&([^;&]*);?/g, (whole, entity: string) => {
    const found = ENTITIES[entity];
    if (found === undefined || !whole.endsWith(';')) throw new Error(`bad entity ${whole}`);
    return found;
  });
}
