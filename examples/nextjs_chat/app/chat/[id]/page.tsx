import { find, settle } from "../../../lib/chats";
import { Chat } from "./chat";

export const dynamic = "force-dynamic";

export default async function Page({ params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  const chat = find(id);
  // What was complete when the page was made needs no stream.
  const isComplete = await settle(chat);
  return <Chat id={id} messages={chat.messages} resume={!isComplete} />;
}
