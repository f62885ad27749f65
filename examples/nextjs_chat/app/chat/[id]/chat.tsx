"use client";

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, type UIMessage } from "ai";
import { useRef, useState } from "react";

type Props = { id: string; messages: UIMessage[]; resume: boolean };

/** The app did not begin an answer: a stream that fails was redirected to. */
class RefusedMessage extends Error {}

// POST /api/chat sends, and GET /api/chat/{id}/stream resumes. Both redirect to the front-end.
const transport = new DefaultChatTransport({
  fetch: async (url, options) => {
    const response = await fetch(url, options);
    const isRefused = options?.method === "POST" && !response.ok && !response.redirected;
    if (isRefused) throw new RefusedMessage(await response.text());
    return response;
  },
});

export function Chat({ id, messages: before, resume }: Props) {
  const chat = useChat({ id, messages: before, resume, transport, onError: takeBack });
  const { messages, setMessages, sendMessage, status, error, clearError, resumeStream } = chat;
  const [draft, setDraft] = useState("");
  const [refusal, setRefusal] = useState("");
  const sent = useRef("");

  function send(event: React.FormEvent) {
    event.preventDefault();
    sent.current = draft;
    setDraft("");
    setRefusal("");
    void sendMessage({ text: draft });
  }

  /** A refused message becomes the draft, and the page shows what the app has: another tab may have sent a message. */
  async function takeBack(failure: Error) {
    if (!(failure instanceof RefusedMessage)) return;
    setRefusal(failure.message);
    setDraft((current) => current || sent.current);
    const response = await fetch(`/api/chat/${id}`);
    if (!response.ok) return;
    const { messages: stored, isComplete } = await response.json();
    clearError();
    setMessages(stored);
    if (!isComplete) void resumeStream();
  }

  function reconnect() {
    clearError();
    void resumeStream();
  }

  return (
    <main data-status={status}>
      {messages.map(({ id, role, parts }) => (
        <p key={id} className={role} data-testid={role}>
          {parts.map((part) => (part.type === "text" ? part.text : "")).join("")}
        </p>
      ))}
      {refusal && <p role="alert">{refusal}</p>}
      {error && !refusal && (
        <p role="alert">
          {error.message} <button onClick={reconnect}>Reconnect</button>
        </p>
      )}
      <form onSubmit={send}>
        <input aria-label="Message" value={draft} onChange={(event) => setDraft(event.target.value)} autoFocus />
        {status === "streaming" ? (
          <button type="button" onClick={() => fetch(`/api/chat/${id}/stop`, { method: "POST" })}>
            Stop
          </button>
        ) : (
          <button disabled={!draft || status === "submitted"}>Send</button>
        )}
      </form>
    </main>
  );
}
