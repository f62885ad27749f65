// useChat resumes: send the browser to the latest answer's stream. It begins with a snapshot, also when it has ended.

import { redirectToStream } from "../../../../../lib/broadcaster";
import { find } from "../../../../../lib/chats";

export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }): Promise<Response> {
  const { generation, user } = find((await params).id);
  return generation ? redirectToStream(generation, user) : new Response(null, { status: 204 });
}
