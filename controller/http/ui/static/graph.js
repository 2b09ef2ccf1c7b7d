// The cluster as a graph: namespaces as boxes, workloads in them, what counts now as edges, what policy drops as marks.

import {h, svg, a, put, later, count, rate, link, say} from './dom.js';
import {ask} from './api.js';
import {store} from './store.js';
import {head, section, empty, keep} from './view.js';
import {Reach, somePort, shownName} from './matrix.js';
import {follow} from './audit.js';

const BOX = 172, LINE = 26, PAD = 10, TITLE = 28, GAP = 34, MAX_GAP = 180, BEND = 76, MAX_SCALE = 1.5, MAX_SHOWN = 1200, MAX_EDGES = 400, MAX_LIST = 200, RECENT = 30000;

/** Namespaces in columns, the shortest column first, so that a reload draws the same picture. */
function arrange(spaces, width) {
  const columns = Math.max(1, Math.min(spaces.size, Math.floor((width + GAP) / (BOX + 2 * PAD + GAP))));
  const gap = columns > 1 ? Math.min(MAX_GAP, Math.max(GAP, (width - columns * (BOX + 2 * PAD)) / (columns - 1))) : GAP;
  const heights = new Array(columns).fill(0), places = new Map(), boxes = [];
  for (const [space, names] of spaces) {
    const column = heights.indexOf(Math.min(...heights)), x = column * (BOX + 2 * PAD + gap), y = heights[column];
    const height = TITLE + names.length * LINE + PAD;
    boxes.push({space, x, y, width: BOX + 2 * PAD, height});
    names.forEach((name, n) => places.set(name, {x: x + PAD, y: y + TITLE + n * LINE, column}));
    heights[column] += height + GAP;
  }
  return {places, boxes, width: columns * (BOX + 2 * PAD + gap) - gap, height: Math.max(...heights) - GAP + 4};
}

/** A curve from the side of one workload to the side of another. */
function curve(from, to) {
  const y1 = from.y + 11, y2 = to.y + 11;
  if (from.x === to.x) {
    const x = from.x + BOX, bend = 26 + Math.min(60, Math.abs(y2 - y1) / 5);
    return `M${x},${y1} C${x + bend},${y1} ${x + bend},${y2} ${x},${y2}`;
  }
  const right = to.x > from.x, x1 = right ? from.x + BOX : from.x, x2 = right ? to.x : to.x + BOX;
  const bend = Math.max(30, Math.abs(x2 - x1) / 2) * (right ? 1 : -1);
  return `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
}

const short = name => name.slice(name.indexOf('/') + 1).replace(/\[(\w+)\]$/, '');

export async function graphView({focus = '', namespace = ''}, {signal, on}) {
  const reach = new Reach(await ask('matrix', {by: 'workload', namespace}, signal));
  const spaces = new Map();
  for (const one of reach.groups) {
    if (!one.pods) continue;
    if (!spaces.has(one.namespace)) spaces.set(one.namespace, []);
    spaces.get(one.namespace).push(one.name);
  }
  const shown = new Map();
  let total = 0;
  for (const [space, names] of [...spaces].sort()) {
    if (total < MAX_SHOWN) shown.set(space, names);
    total += names.length;
  }
  const drawing = svg('svg', {class: 'graph', role: 'group', 'aria-label': 'Workloads by namespace'});
  const defs = svg('defs', {}, ['live', 'out', 'in', 'denied'].map(kind => svg('marker', {id: `arrow-${kind}`, class: `arrow ${kind}`, viewBox: '0 0 8 8', refX: 7, refY: 4, markerUnits: 'userSpaceOnUse', markerWidth: 9, markerHeight: 9, orient: 'auto'}, svg('path', {d: 'M0,0 L8,4 L0,8 z'}))));
  const edges = svg('g', {class: 'edges', 'aria-hidden': 'true'}), boxes = svg('g', {}), chosenEdges = svg('g', {class: 'edges', 'aria-hidden': 'true'});
  drawing.append(defs, boxes, edges, chosenEdges);
  const items = new Map();
  let places = new Map(), chosen = reach.places.has(focus) ? focus : '', order = [];
  const side = h('aside', {class: 'side', 'aria-label': 'Chosen workload', role: 'region'});
  const frame = h('div', {class: 'graph-frame', tabindex: '-1'}, drawing);

  function drawBoxes() {
    const room = Math.max(400, frame.clientWidth - 40 || 900), laid = arrange(shown, room - BEND);
    places = laid.places;
    const width = laid.width + BEND, height = laid.height + 8;
    const scale = Math.max(1, Math.min(MAX_SCALE, room / width, (frame.clientHeight - 40 || height) / height));
    drawing.setAttribute('viewBox', `-8 -4 ${width} ${height}`);
    drawing.setAttribute('width', width * scale);
    drawing.setAttribute('height', height * scale);
    items.clear();
    order = [];
    boxes.replaceChildren(...laid.boxes.map(box => svg('g', {class: 'space'},
      svg('rect', {x: box.x, y: box.y, width: box.width, height: box.height, rx: 8}),
      svg('text', {x: box.x + PAD, y: box.y + 19, class: 'title'}, box.space.length > 24 ? `${box.space.slice(0, 23)}…` : box.space),
      shown.get(box.space).map(name => item(name, places.get(name))))));
    mark();
  }

  function item(name, place) {
    const group = reach.groups[reach.places.get(name)], text = short(name);
    const made = svg('g', {class: 'workload', role: 'button', tabindex: order.length ? '-1' : '0', 'aria-pressed': 'false', 'aria-label': `${name}, ${group.pods} pods`, transform: `translate(${place.x},${place.y})`,
      onclick: () => choose(name), onkeydown: event => keys(event, name), onfocus: () => roving(name)},
    svg('title', {}, name), svg('rect', {width: BOX, height: 22, rx: 5}), svg('text', {x: 9, y: 15}, text.length > 19 ? `${text.slice(0, 18)}…` : text),
    svg('text', {x: BOX - 9, y: 15, class: 'pods'}, group.pods), svg('text', {x: BOX - 32, y: 15, class: 'denied'}));
    items.set(name, made);
    order.push(name);
    return made;
  }

  function roving(name) {
    for (const [other, one] of items) one.setAttribute('tabindex', other === name ? '0' : '-1');
  }

  function keys(event, name) {
    const n = order.indexOf(name), step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step) { event.preventDefault(); items.get(order[Math.max(0, Math.min(order.length - 1, n + step))]).focus(); }
    else if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
      event.preventDefault();
      const here = places.get(name), way = event.key === 'ArrowRight' ? 1 : -1;
      const near = order.filter(other => (places.get(other).x - here.x) * way > 0)
        .sort((one, other) => distance(one, here) - distance(other, here))[0];
      if (near) items.get(near).focus();
    } else if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); choose(name); }
    else if (event.key === 'Escape') choose('');
  }

  const distance = (name, here) => Math.abs(places.get(name).x - here.x) * 3 + Math.abs(places.get(name).y - here.y);

  function choose(name) {
    chosen = chosen === name ? '' : name;
    keep({focus: chosen});
    mark();
    drawSide();
    if (chosen) say(`${name} chosen`);
  }

  function mark() {
    const out = new Map(), into = new Map();
    if (chosen) {
      const n = reach.places.get(chosen);
      for (const [other, cell] of reach.reached(n)) if (other !== n || reach.groups[n].pods > 1) out.set(reach.groups[other].name, cell);
      reach.groups.forEach((one, source) => {
        const cell = source === n ? null : reach.cell(source, n);
        if (cell) into.set(one.name, cell);
      });
    }
    for (const [name, one] of items) {
      one.classList.toggle('chosen', name === chosen);
      one.setAttribute('aria-pressed', String(name === chosen));
      one.classList.toggle('reached', out.has(name));
      one.classList.toggle('reaches', into.has(name));
      one.classList.toggle('dimmed', Boolean(chosen) && name !== chosen && !out.has(name) && !into.has(name));
    }
    const lines = [];
    for (const [kind, names] of [['in', into], ['out', out]]) for (const name of names.keys()) {
      const [from, to] = kind === 'out' ? [chosen, name] : [name, chosen];
      if (places.has(from) && places.has(to) && lines.length < MAX_EDGES) lines.push(svg('path', {class: `edge ${kind}`, d: curve(places.get(from), places.get(to)), 'marker-end': `url(#arrow-${kind})`}));
    }
    chosenEdges.replaceChildren(...lines);
    drawing.classList.toggle('choosing', Boolean(chosen));
    chosenSets = [out, into];
  }

  let chosenSets = [new Map(), new Map()];
  const recent = new Map();

  /** A workload as the matrix names it. */
  const group = one => {
    const [kind, name] = one.workload.split('/');
    const [space, own] = one.name.split('/');
    return one.kind === 'pod' ? `${space}/${name ? `${name}[${kind}]` : `${own}[Pod]`}` : '';
  };

  follow({verdict: 'denied'}, {signal, take: event => {
    const from = group(event.source), to = group(event.destination);
    recent.delete(`${from} ${to}`);
    recent.set(`${from} ${to}`, {at: performance.now(), from, to, text: event.text});
    if (recent.size > MAX_EDGES) recent.delete(recent.keys().next().value);
    drawSoon();
  }});


  function listed(title, names, way) {
    const rows = [...names].slice(0, MAX_LIST);
    return section(`${title} (${count(names.size)})`, rows.length ? h('ul', {class: 'peers'}, rows.map(([name, cell]) => {
      const [from, to] = way === 'out' ? [chosen, name] : [name, chosen];
      return h('li', {}, a('explain', {from, to, port: somePort(cell.ports)}, shownName(name)), h('span', {class: 'dim'}, ` ${cell.ports}${cell.complete ? '' : ' (some)'}`));
    })) : empty('nobody'), names.size > MAX_LIST && h('p', {class: 'note'}, `the first ${MAX_LIST}`));
  }

  function drawSide() {
    if (!chosen) {
      const {rates} = store;
      put(side, h('p', {class: 'note'}, 'Choose a workload to see whom it reaches and who reaches it. Lines show rules that let packets pass now; red marks show what policy drops.'),
        h('dl', {class: 'keys'}, [['live', 'a rule that counts now'], ['out', 'may be reached'], ['in', 'may reach it'], ['drop', 'policy drops packets now'], ['denied', 'denied now by a rule of a tier, or lately (audited pods)']].map(([kind, text]) => h('div', {}, h('dt', {class: kind}), h('dd', {}, text)))),
        rates && h('p', {class: 'note'}, `${count(rates.rules.length)} ${rates.rules.length === 1 ? 'rule counts' : 'rules count'}; ${count(rates.denied.length)} ${rates.denied.length === 1 ? 'pod loses' : 'pods lose'} packets; ${rates.covered} of ${rates.of} switches counted.`));
      return;
    }
    const one = reach.groups[reach.places.get(chosen)];
    const mine = (store.rates?.denied || []).filter(entry => entry.workload === chosen);
    put(side, h('h2', {}, chosen), h('p', {}, `${count(one.pods)} ${one.pods === 1 ? 'pod' : 'pods'}. `, a('pods', {q: podsOf(chosen)}, 'Show them'), '. ', a('matrix', {by: 'pod', namespace: one.namespace, from: podsOf(chosen)}, 'By pod')),
      mine.length > 0 && h('ul', {class: 'findings'}, mine.map(entry => h('li', {class: 'bad'}, a('pod', {key: entry.pod}, entry.pod), `: ${rate(entry.rate)} dropped, ${entry.direction}`))),
      listed('It may reach', chosenSets[0], 'out'), listed('May reach it', chosenSets[1], 'in'));
  }

  const podsOf = name => name.replace(/\[\w+\]$/, '');

  function drawLive() {
    const {rates} = store;
    const lines = [], lost = new Map();
    for (const rule of rates?.rules || []) {
      const width = 1 + Math.min(5, Math.log10(1 + rule.rate)), kind = rule.action === 'Deny' ? 'denied' : 'live';
      for (const from of rule.sources || []) for (const to of rule.destinations || []) {
        if (lines.length < MAX_EDGES && places.has(from) && places.has(to)) {
          lines.push(svg('path', {class: `edge ${kind}`, d: curve(places.get(from), places.get(to)), 'stroke-width': width.toFixed(1), 'marker-end': `url(#arrow-${kind})`},
            svg('title', {}, `${rule.policy} ${rule.direction}[${rule.rule}]: ${rate(rule.rate)} ${kind === 'denied' ? 'denied' : 'allowed'} by the whole rule`)));
        }
      }
    }
    for (const one of rates?.denied || []) lost.set(one.workload, (lost.get(one.workload) || 0) + one.rate);
    const now = performance.now();
    for (const [pair, {at, from, to, text}] of recent) {
      if (now - at > RECENT) recent.delete(pair);
      else if (places.has(from) && places.has(to)) lines.push(svg('path', {class: 'edge denied', d: curve(places.get(from), places.get(to)), 'marker-end': 'url(#arrow-denied)'}, svg('title', {}, text)));
    }
    edges.replaceChildren(...lines);
    for (const [name, one] of items) {
      const dropped = lost.get(name);
      one.classList.toggle('losing', Boolean(dropped));
      one.querySelector('.denied').textContent = dropped ? `✗ ${rate(dropped)}` : '';
    }
    if (!chosen) drawSide();
  }

  const drawSoon = later(drawLive, 200);
  const listing = [...spaces.keys()].sort();
  const pick = h('label', {class: 'field'}, 'Namespace', h('select', {onchange: event => { location.hash = link('graph', {namespace: event.target.value}).slice(1); }},
    ['', ...new Set([...[...store.pods.keys()].map(key => key.split('/')[0]), ...listing])].sort().map(name => h('option', {value: name, selected: name === namespace}, name || 'all'))));
  queueMicrotask(() => requestAnimationFrame(() => { drawBoxes(); drawLive(); drawSide(); if (chosen) items.get(chosen)?.scrollIntoView({block: 'center'}); }));
  on('rates', drawLive);
  return h('div', {class: 'tall'}, head('Graph', {command: `headgate matrix --by workload${namespace ? ` -n ${namespace}` : ''}`,
    note: total > MAX_SHOWN && `${count(total)} workloads are too many to draw at once: the first namespaces are here; choose one.`, more: pick}),
  h('div', {class: 'with-side'}, frame, side));
}
