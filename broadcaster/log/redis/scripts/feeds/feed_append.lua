-- feed_append: add the next entries of a feed. The script numbers them, so that any number of writers may append at once,
-- and pushes them in the same step. With a status, the one entry is the terminal event and closes the feed.
-- KEYS log, meta, live channel, idem, taken, lease
-- ARGV tenant, key hash ('' without an Idempotency-Key), body hash, status the entry ends the feed with ('' when it does
--      not), live_ttl_ms, push_max_bytes, most appends a second, ms a key is kept, most keys kept, format version,
--      the writer's creation (its feed's configuration, '' of a caller that has none), the id of the newest entry that
--      the writer knows to be in the log ('' none), event JSON ...
-- Returns {code, epoch, first seq, last seq, wait_ms, 1 if the feed has a webhook}: 1 appended, 0 taken already (where it stands), -1 unknown,
-- -2 closed, -3 full, -4 the key was used with another body, -5 too often (retry in wait_ms), -6 the writer's feed was
-- replaced by another one (feed_replace), -7 it is a Durable Stream, which has appends of its own (durable_append), -8
-- Redis has lost that entry: nothing was written.
-- Checked in the order unknown, replaced, Durable Stream, key, closed, lost, too often, full. The lease of
-- an open feed is renewed in every case but the first two: its writer lives.
-- The left half of an id is max(now, that of the entry before): a seq that is issued twice, because Redis lost the tail,
-- gets another id and is noticed. meta keeps the last id: a feed whose log has expired goes on behind it, and one whose log
-- lost only its tail gets a newer epoch even within the same millisecond. It is not below meta's since_epoch, so that an
-- older cursor is known to be of another feed that had the id, also if the clock has stepped back since the creation.
-- @include clock
-- @include expiry
-- @include feed_lease
-- @include feed_tail
local EVENTS_FROM = 13
local SWEPT_AT_ONCE = 16
local key, body, status = ARGV[2], ARGV[3], ARGV[4]
local ends = status ~= ''
local count = #ARGV - EVENTS_FROM + 1

local names = {'kind', 'tenant', 'status', 'last_id', 'max_events', 'max_bytes', 'on_full', 'retention_ms', 'terminal',
  'tokens', 'tokens_ms', 'lease_ms', 'config', 'webhook', 'content_type', 'expires_ms', 'since_epoch'}
local meta = {}
for i, value in ipairs(redis.call('HMGET', KEYS[2], unpack(names))) do meta[names[i]] = value end
local is_open = meta.status == 'queued'
local function answer(code, epoch, first, last, wait_ms)
  if is_open then renew_feed_lease(KEYS[6], meta.lease_ms) end
  return {code, epoch, first, last, wait_ms or 0, meta.webhook and 1 or 0}
end
if meta.kind ~= 'feed' or meta.tenant ~= ARGV[1] then return {-1, 0, 0, 0, 0, 0} end
if ARGV[11] ~= '' and meta.config and meta.config ~= ARGV[11] then return {-6, 0, 0, 0, 0, 0} end
if meta.content_type and not ends then return {-7, 0, 0, 0, 0, 0} end

local now_ms = read_clock()

-- The epoch of an append is the time at which its key was taken.
local function read_taken(of_key)
  local hash, epoch, first, last = string.match(redis.call('HGET', KEYS[5], of_key) or '', '^(%x+) (%d+) (%d+) (%d+)$')
  return hash, tonumber(epoch), tonumber(first), tonumber(last)
end
if key ~= '' then
  local hash, epoch, first, last = read_taken(key)
  if hash and epoch > now_ms - tonumber(ARGV[8]) then
    if hash ~= body then return answer(-4, 0, 0, 0) end
    return answer(0, epoch, first, last)
  end
end

local last_epoch, last_seq, bytes, closed, least_epoch = read_feed_tail(KEYS[1], meta.last_id)
is_open = is_open and not closed
if not is_open then
  local same = ends and meta.terminal == ARGV[EVENTS_FROM]
  return answer(same and 0 or -2, last_epoch, last_seq, last_seq)
end

-- An entry that was trimmed, or whose log has expired, is not lost. Each seq is issued once, unless Redis lost it.
local function is_lost(entry)
  local epoch, seq = string.match(entry, '^(%d+)-(%d+)$')
  if not epoch then return false end
  if last_seq < tonumber(seq) or tonumber(meta.since_epoch or 0) > tonumber(epoch) then return true end
  if meta.last_id == entry or redis.call('XRANGE', KEYS[1], entry, entry)[1] then return false end
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  return oldest and tonumber(string.match(oldest[1], '%d+$')) <= tonumber(seq)
end
if is_lost(ARGV[12]) then return answer(-8, last_epoch, 0, last_seq) end

local tokens = 0
if not ends then
  local per_s = tonumber(ARGV[7])
  local most = math.max(1, per_s)
  local passed_ms = math.max(0, now_ms - tonumber(meta.tokens_ms or now_ms))
  tokens = math.min(most, tonumber(meta.tokens or most) + passed_ms * per_s / 1000) - 1
  if tokens < 0 then
    -- A time ahead of the clock is from before a step back: without this nothing would be let in before the clock is there.
    if tonumber(meta.tokens_ms or now_ms) > now_ms then
      redis.pcall('HSET', KEYS[2], 'tokens_ms', digits(now_ms))
    end
    return answer(-5, last_epoch, 0, last_seq, math.ceil(-tokens * 1000 / per_s))
  end
end

local added = 0
for i = EVENTS_FROM, #ARGV do added = added + #ARGV[i] end
local max_events, max_bytes = tonumber(meta.max_events), tonumber(meta.max_bytes)
local trims = meta.on_full == 'trim' and not ends
if not ends then
  local stored = trims and 0 or redis.call('XLEN', KEYS[1])
  -- The log begins at 0 bytes and nothing of it is trimmed, so its newest entry knows all of its bytes.
  local stored_bytes = trims and 0 or bytes
  if stored + count > max_events or stored_bytes + added > max_bytes then
    return answer(-3, last_epoch, 0, last_seq)
  end
end

local epoch = math.max(now_ms, least_epoch, tonumber(meta.since_epoch or 0))
local function id(seq) return string.format('%.0f-%.0f', epoch, seq) end
local first, last = last_seq + 1, last_seq + count
for i = EVENTS_FROM, #ARGV do
  bytes = bytes + #ARGV[i]
  redis.call('XADD', KEYS[1], id(first + i - EVENTS_FROM), 'e', ARGV[i], 'v', ARGV[10], 'b', digits(bytes))
end

-- An entry's b counts all bytes up to it, so the bytes from an entry on are the newest b less the b before it. More than
-- the oldest entry is read only if that one must go.
local function trim_bytes()
  local page = 1
  while true do
    local doomed
    local rows = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', page)
    for at, row in ipairs(rows) do
      local upto, size = 0, 0
      for i = 1, #row[2], 2 do
        if row[2][i] == 'b' then upto = tonumber(row[2][i + 1]) end
        if row[2][i] == 'e' then size = #row[2][i + 1] end
      end
      if bytes - (upto - size) <= max_bytes then break end
      doomed = row[1]
    end
    if not doomed then return end
    local at_epoch, at_seq = string.match(doomed, '^(%d+)-(%d+)$')
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%s-%.0f', at_epoch, tonumber(at_seq) + 1))
    if doomed ~= rows[#rows][1] then return end
    page = 16
  end
end
if trims then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', max_events)
  trim_bytes()
end

local kept_ms = ARGV[5]
local set = {'last_id', id(last), 'tokens', string.format('%.3f', tokens), 'tokens_ms', digits(now_ms)}
if ends then
  is_open = false
  redis.call('DEL', KEYS[6])
  kept_ms = meta.retention_ms
  for _, part in ipairs({'status', status, 'ended_ms', digits(now_ms), 'terminal', ARGV[EVENTS_FROM],
    'terminal_id', id(last)}) do set[#set + 1] = part end
end
redis.call('HSET', KEYS[2], unpack(set))
if meta.content_type then
  -- A Durable Stream goes all at once, at the time that its creation named.
  if meta.expires_ms then kept_ms = digits(math.max(1, tonumber(meta.expires_ms) - now_ms)) end
  for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], kept_ms) end
else
  keep_stream(KEYS[1], KEYS[2], kept_ms)
end

if key ~= '' then
  redis.call('ZADD', KEYS[4], digits(last), key)
  redis.call('HSET', KEYS[5], key, string.format('%s %.0f %.0f %.0f', body, epoch, first, last))
  local kept = redis.call('ZCARD', KEYS[4])
  for _ = 1, SWEPT_AT_ONCE do
    local oldest = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
    local _, taken_ms = read_taken(oldest)
    if kept <= tonumber(ARGV[9]) and (taken_ms or 0) > now_ms - tonumber(ARGV[8]) then break end
    redis.call('ZREM', KEYS[4], oldest)
    redis.call('HDEL', KEYS[5], oldest)
    kept = kept - 1
  end
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
  redis.call('PEXPIRE', KEYS[5], ARGV[8])
end

local head = string.format('1 %.0f %.0f %.0f %.0f', epoch, first, count, last_epoch)
local parts = {head}
for i = EVENTS_FROM, #ARGV do parts[#parts + 1] = ARGV[i] end
-- A batch over the bound is pushed as its head alone, a poke: the front-end reads it from the log.
redis.call('SPUBLISH', KEYS[3], added <= tonumber(ARGV[6]) and table.concat(parts, '\n') or head)
return answer(1, epoch, first, last)
