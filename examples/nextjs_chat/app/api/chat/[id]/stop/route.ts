// End the answer itself: a page that only leaves its stream leaves the answer running.

import { passingRefusals, stop } from "../../../../../lib/broadcaster";
import { find } from "../../../../../lib/chats";

export async function POST(_: Request, { params }: { params: Promise<{ id: string }> }): Promise<Response> {
  const { generation } = find((await params).id);
  return passingRefusals(async () => {
    if (generation) await stop(generation);
    return new Response(null, { status: 204 });
  });
}
