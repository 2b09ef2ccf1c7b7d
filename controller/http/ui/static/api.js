// Asks the controller: questions, and the stream of what changes. The token, where one is needed, is kept for this tab.

const TOKEN = 'headgate-token';

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** A token at the end of the address (#token=...) is taken, and removed from what the browser shows. */
export function takeToken() {
  const found = /^#token=([\x21-\x7e]{16,256})$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(TOKEN, found[1]);
  history.replaceState(null, '', `${location.pathname}#/`);
}

export function setToken(text) {
  sessionStorage.setItem(TOKEN, text.trim());
}

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? {...more, Authorization: `Bearer ${token}`} : {...more};
}

async function refusal(response) {
  let text = `${response.status} ${response.statusText}`;
  try {
    text = (await response.json()).error || text;
  } catch { /* not every answer is JSON */ }
  return new Refused(response.status, text);
}

function query(parameters) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters || {})) if (value) found.set(name, value);
  const text = found.toString();
  return text ? `?${text}` : '';
}

/** The answer to a question, as an object. Throws Refused. */
export async function ask(name, parameters, signal) {
  const response = await fetch(`api/${name}${query(parameters)}`, {headers: headers(), signal, cache: 'no-store'});
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** The same as text. */
export async function askText(name, parameters) {
  const response = await fetch(`api/${name}${query(parameters)}`, {headers: headers(), cache: 'no-store'});
  if (!response.ok) throw await refusal(response);
  return response.text();
}

export async function send(name, value, signal) {
  const response = await fetch(`api/${name}`, {
    method: 'POST', body: JSON.stringify(value), headers: headers({'Content-Type': 'application/json'}), signal,
  });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Until the tab is seen: a browser has few connections for one address, and hidden tabs need none. */
export async function seen() {
  while (document.hidden) await new Promise(done => document.addEventListener('visibilitychange', done, {once: true}));
}

/** Read server-sent events until the stream ends; `take` gets the name, the value and the number of each. Fails with an
    AbortError when the tab is hidden. */
export async function stream(name, parameters, take, signal) {
  const hidden = new AbortController();
  const stop = () => { if (document.hidden) hidden.abort(); };
  document.addEventListener('visibilitychange', stop);
  try {
    await read(name, parameters, take, AbortSignal.any([signal, hidden.signal]));
  } finally {
    document.removeEventListener('visibilitychange', stop);
  }
}

async function read(name, parameters, take, signal) {
  const response = await fetch(`api/${name}${query(parameters)}`, {headers: headers(), signal, cache: 'no-store'});
  if (!response.ok) throw await refusal(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n\n');
    rest = parts.pop();
    for (const part of parts) {
      const fields = {};
      for (const line of part.split('\n')) {
        const colon = line.indexOf(':');
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
      }
      if (fields.data !== undefined) take(fields.event || 'message', JSON.parse(fields.data), fields.id);
    }
  }
}
