// The chat page: one conversation, streamed over fetch. All text enters the page as text nodes.
'use strict';

const byId = (id) => document.getElementById(id);
const messages = byId('messages');
const prompt = byId('prompt');
const send = byId('send');
const stop = byId('stop');
const statusLine = byId('status');
const errorLine = byId('error');

let history = [];      // the conversation as the server gets it, without the system prompt
let running = null;    // AbortController of the answer under way

function showError(text) {
  errorLine.textContent = text;
  errorLine.hidden = !text;
}

function addMessage(role, text) {
  byId('empty').hidden = true;
  const block = document.createElement('article');
  block.className = 'message ' + role;
  block.setAttribute('aria-label', role === 'user' ? 'You' : 'Answer');
  const body = document.createElement('div');
  body.className = 'text';
  body.append(document.createTextNode(text));
  const note = document.createElement('p');
  note.className = 'note';
  block.append(body, note);
  messages.append(block);
  messages.scrollTop = messages.scrollHeight;
  return {block, body: body.firstChild, note};
}

function setRunning(controller) {
  running = controller;
  const busy = controller !== null;
  messages.dataset.state = busy ? 'streaming' : 'done';
  messages.setAttribute('aria-busy', String(busy));
  send.hidden = busy;
  stop.hidden = !busy;
}

function requestBody() {
  const system = byId('system').value.trim();
  const body = {
    messages: system ? [{role: 'system', content: system}, ...history] : history,
    stream: true,
    stream_options: {include_usage: true},
  };
  const temperature = byId('temperature').value;
  const maxTokens = byId('max-tokens').value;
  if (temperature !== '') body.temperature = Number(temperature);
  if (maxTokens !== '') body.max_tokens = Number(maxTokens);
  return body;
}

// Yields the payload of each server-sent event; comments are skipped.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf('\n\n')) >= 0) {
      const event = rest.slice(0, end);
      rest = rest.slice(end + 2);
      for (const line of event.split('\n')) if (line.startsWith('data: ')) yield line.slice(6);
    }
  }
}

async function errorOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}

function speedOf(usage, firstAt, lastAt) {
  const tokens = usage.completion_tokens;
  const seconds = (lastAt - firstAt) / 1000;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const parts = [`${tokens} tokens`];
  if (tokens > 1 && seconds > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`);
  parts.push(`prompt ${usage.prompt_tokens}` + (cached ? ` (${cached} cached)` : ''));
  return parts.join(' · ');
}

async function receive(response, view, startedAt) {
  let text = '';
  let pieces = 0;
  let firstAt = 0;
  let lastAt = 0;
  let complete = false;
  for await (const data of events(response.body)) {
    if (data === '[DONE]') { complete = true; break; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    const choice = chunk.choices[0];
    const piece = choice?.delta?.content;
    if (piece) {
      lastAt = performance.now();
      if (!pieces++) firstAt = lastAt;
      text += piece;
      const pinned = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
      view.body.appendData(piece);
      if (pinned) messages.scrollTop = messages.scrollHeight;
      const seconds = (lastAt - firstAt) / 1000;
      if (pieces > 1 && seconds > 0)
        statusLine.textContent = `${((pieces - 1) / seconds).toFixed(1)} pieces/s`;
      view.onText?.(text);
    }
    if (choice?.finish_reason === 'length') view.cut = true;
    if (chunk.usage) {
      const wait = firstAt ? `${((firstAt - startedAt) / 1000).toFixed(2)} s to the first`
                           : 'no text';
      view.note.textContent = `${speedOf(chunk.usage, firstAt, lastAt)} · ${wait}` +
          (view.cut ? ' · stopped at the token limit' : '');
    }
  }
  if (!complete) throw new Error('The connection ended before the answer was complete.');
}

async function ask(text) {
  showError('');
  history.push({role: 'user', content: text});
  const asked = addMessage('user', text);
  const view = addMessage('assistant', '');
  const controller = new AbortController();
  let answer = '';
  view.onText = (all) => { answer = all; };
  view.block.dataset.state = 'streaming';
  setRunning(controller);
  statusLine.textContent = 'Waiting for the first token…';
  let state = 'failed';
  try {
    const startedAt = performance.now();
    const response = await fetch('v1/chat/completions', {
      method: 'POST',
      headers: {'Content-Type': 'application/json'},
      body: JSON.stringify(requestBody()),
      signal: controller.signal,
    });
    if (!response.ok) throw new Error(await errorOf(response));
    await receive(response, view, startedAt);
    state = 'complete';
  } catch (failure) {
    if (failure.name === 'AbortError') {
      state = 'stopped';
      view.note.textContent = 'Stopped.';
    } else {
      showError(failure instanceof TypeError ? 'The server cannot be reached.' : failure.message);
    }
  }
  if (history.at(-1)?.content !== text || !asked.block.isConnected) return;  // a new chat has begun
  if (answer || state === 'complete') {
    history.push({role: 'assistant', content: answer});
  } else {  // give the text back instead of leaving a question without an answer
    history.pop();
    asked.block.remove();
    view.block.remove();
    if (!prompt.value) prompt.value = text;
  }
  view.block.dataset.state = 'done';
  setRunning(null);
  if (state !== 'failed') statusLine.textContent = 'Ready.';
  else statusLine.textContent = answer ? 'The answer is cut short.' : 'The message was not answered.';
  prompt.focus();
}

function fitPrompt() {
  prompt.style.height = 'auto';
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || running) return;
  prompt.value = '';
  fitPrompt();
  ask(text);
});
prompt.addEventListener('input', fitPrompt);
prompt.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId('composer').requestSubmit();
  }
});
stop.addEventListener('click', () => running?.abort());
byId('new-chat').addEventListener('click', () => {
  running?.abort();
  setRunning(null);
  history = [];
  for (const block of messages.querySelectorAll('.message')) block.remove();
  byId('empty').hidden = false;
  showError('');
  statusLine.textContent = 'Ready.';
  prompt.focus();
});
byId('settings-toggle').addEventListener('click', () => {
  const settings = byId('settings');
  settings.hidden = !settings.hidden;
  byId('settings-toggle').setAttribute('aria-expanded', String(!settings.hidden));
});

fetch('v1/models')
  .then((response) => response.json())
  .then((models) => { byId('model').textContent = models.data[0].id; })
  .catch(() => { byId('model').textContent = 'not connected'; });
