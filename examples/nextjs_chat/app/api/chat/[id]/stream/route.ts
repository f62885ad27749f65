// useChat resumes: send the browser to the latest answer's stream. It begins with a snapshot, also when it has ended.

import { passingRefusals, redirectToStream } from "../../../../../lib/broadcaster";
import { find } from "../../../../../lib/chats";

export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }): Promise<Response> {
  const { generation, user } = find((await params).id);
  if (!generation) return new Response(null, { status: 204 });
  return passingRefusals(() => redirectToStream(generation, user));
}
