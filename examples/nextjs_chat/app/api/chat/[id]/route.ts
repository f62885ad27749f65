// What the app has stored of a chat, for a page that is out of date.

import { passingRefusals } from "../../../../lib/broadcaster";
import { find, settle } from "../../../../lib/chats";

export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }): Promise<Response> {
  const chat = find((await params).id);
  return passingRefusals(async () => {
    const isComplete = await settle(chat);
    return Response.json({ messages: chat.messages, isComplete });
  });
}
