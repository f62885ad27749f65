"use client";

import { useChat } from "@ai-sdk/react";
import type { UIMessage } from "ai";
import { useState } from "react";

type Props = { id: string; messages: UIMessage[]; resume: boolean };

export function Chat({ id, messages: before, resume }: Props) {
  // Its default transport: POST /api/chat sends, and GET /api/chat/{id}/stream resumes. Both redirect to the front-end.
  const { messages, sendMessage, status, error, clearError, resumeStream } = useChat({ id, messages: before, resume });
  const [draft, setDraft] = useState("");

  function send(event: React.FormEvent) {
    event.preventDefault();
    void sendMessage({ text: draft });
    setDraft("");
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
      {error && (
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
