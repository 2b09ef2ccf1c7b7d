// Writes what a view shows as one HTML file: with its style inside, and a policy that lets nothing run or be loaded.

import {h} from './dom.js';

async function digest(text) {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return btoa(String.fromCharCode(...new Uint8Array(hash)));
}

/** Hand a text to the person as a file. */
export function saveText(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  const made = h('a', {href: url, download: name});
  document.body.append(made);
  made.click();
  made.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export function fileName(title) {
  return `headgate-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '').slice(0, 80)}`;
}

const escaped = text => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

/** The whole file, for a view that is on the page. */
export async function exportText(title) {
  const style = await (await fetch('style.css')).text();
  const shown = document.getElementById('main'), main = shown.cloneNode(true);
  // What draws only the rows that are seen is written as a whole.
  const drawn = [...shown.querySelectorAll('.grid, .long')];
  [...main.querySelectorAll('.grid, .long')].forEach((one, n) => one.replaceWith(drawn[n].asTable()));
  for (const one of main.querySelectorAll('button, input, select, textarea, form, .no-export')) {
    if (one.tagName === 'TEXTAREA') one.replaceWith(h('pre', {}, document.getElementById(one.id)?.value || ''));
    else one.remove();
  }
  for (const one of main.querySelectorAll('a[href^="#"]')) one.setAttribute('href', location.href.split('#')[0] + one.getAttribute('href'));
  // Rows of long tables are placed by the page's own style, which the policy of the file does not allow.
  for (const one of main.querySelectorAll('[style]')) one.removeAttribute('style');
  main.classList.add('exported');
  // Text that could end the style is not in it; names are text nodes, and written as such.
  // Digests need a secure context; without one the file's own style is let in by another word.
  const allowed = crypto.subtle ? `'sha256-${await digest(style)}'` : "'unsafe-inline'";
  const policy = `default-src 'none'; style-src ${allowed}`;
  const theme = document.documentElement.dataset.theme || 'auto';
  return `<!DOCTYPE html>\n<html lang="en" data-theme="${escaped(theme)}"><head><meta charset="utf-8">` +
    `<meta http-equiv="Content-Security-Policy" content="${policy}"><title>${escaped(title)}</title>` +
    `<style>${style}</style></head><body>${main.outerHTML}` +
    `<footer class="note">Headgate, ${escaped(new Date().toISOString())}, ${escaped(location.href)}</footer></body></html>\n`;
}

export async function exportView(title) {
  saveText(`${fileName(title)}.html`, await exportText(title), 'text/html');
}
