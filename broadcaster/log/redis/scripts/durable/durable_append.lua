-- durable_append: append to a Durable Stream, close it, or both in one step. The script numbers the entries, and commits
-- the state of an idempotent producer with them.
-- KEYS log, meta, live channel, producers
-- ARGV tenant, media type of the body ('' no body), live_ttl_ms, push_max_bytes, most appends a second, format version,
--      Stream-Seq as hex ('' none), producer id ('' none), its epoch, its seq, status the end gives ('' none), end event
--      ('' none), event ...
-- Returns {code, epoch, seq, producer's epoch, producer's last seq, 1 if it is closed, wait_ms}: 1 appended, 0 it was
-- taken before, -1 unknown, -2 closed, -3 another media type, -4 the producer has a newer epoch, -5 a new epoch does not
-- begin at 0, -6 numbers are missing before the producer's, -7 Stream-Seq has not risen, -8 too often (retry in
-- wait_ms), -9 full, -10 no Durable Stream; the entry of content that it ends with. Checked in the order unknown, closed,
-- media type, producer, Stream-Seq, too often, full.
-- @include durable
local EVENTS_FROM = 13
local producer, status, ending = ARGV[8], ARGV[11], ARGV[12]
local producer_epoch, producer_seq = tonumber(ARGV[9]), tonumber(ARGV[10])
local names = {'kind', 'tenant', 'status', 'deleted_ms', 'content_type', 'media_type', 'last_id', 'durable_tail',
  'durable_seq', 'durable_closer', 'max_events', 'max_bytes', 'retention_ms', 'ttl_s', 'expires_ms', 'tokens', 'tokens_ms',
  'producers'}
local meta = {}
for i, value in ipairs(redis.call('HMGET', KEYS[2], unpack(names))) do meta[names[i]] = value end
if not meta.tenant or meta.tenant ~= ARGV[1] or meta.deleted_ms then return {-1, 0, 0, 0, 0, 0, 0} end
if not meta.content_type then return {-10, 0, 0, 0, 0, 0, 0} end
local tail_epoch, tail_seq = string.match(meta.durable_tail or '0-0', '^(%d+)-(%d+)$')
local known_epoch, known_seq
local function answer(code, wait_ms)
  local is_closed = meta.status ~= 'queued' and 1 or 0
  return {code, tonumber(tail_epoch), tonumber(tail_seq), known_epoch or 0, known_seq or 0, is_closed, wait_ms or 0}
end

if producer ~= '' then
  known_epoch, known_seq = string.match(redis.call('HGET', KEYS[4], producer) or '', '^(%d+) (%d+)$')
  known_epoch, known_seq = tonumber(known_epoch), tonumber(known_seq)
end
local closer = producer ~= '' and string.format('%.0f %.0f %s', producer_epoch, producer_seq, producer) or ''
if meta.status ~= 'queued' then
  local is_repeat = ending ~= '' and producer ~= '' and meta.durable_closer == closer
  local is_plain_close = ending ~= '' and producer == '' and #ARGV < EVENTS_FROM
  return answer((is_repeat or is_plain_close) and 0 or -2)
end
if ARGV[2] ~= '' and ARGV[2] ~= meta.media_type then return answer(-3) end
if producer ~= '' then
  if not known_epoch then
    if producer_seq ~= 0 then known_seq = -1 return answer(-6) end
  elseif producer_epoch < known_epoch then
    return answer(-4)
  elseif producer_epoch > known_epoch then
    if producer_seq ~= 0 then return answer(-5) end
  elseif producer_seq <= known_seq then
    return answer(0)
  elseif producer_seq > known_seq + 1 then
    return answer(-6)
  end
end
-- As hex both orders are one, whatever the server's locale is.
if ARGV[7] ~= '' and meta.durable_seq and ARGV[7] <= meta.durable_seq then return answer(-7) end

local now_ms, tokens = read_clock(), nil
local events = arguments_from(EVENTS_FROM)
local count = #events
if count > 0 then
  local per_s = tonumber(ARGV[5])
  local most = math.max(1, per_s)
  local passed_ms = math.max(0, now_ms - tonumber(meta.tokens_ms or now_ms))
  tokens = math.min(most, tonumber(meta.tokens or most) + passed_ms * per_s / 1000) - 1
  if tokens < 0 then
    -- A time ahead of the clock is from before a step back.
    if tonumber(meta.tokens_ms or now_ms) > now_ms then redis.pcall('HSET', KEYS[2], 'tokens_ms', digits(now_ms)) end
    return answer(-8, math.ceil(-tokens * 1000 / per_s))
  end
end

local tail, closed = read_durable_tail(KEYS[1], meta.last_id)
if closed then return answer(-2) end
local added = 0
for _, event in ipairs(events) do added = added + #event end
if count > 0 then
  local has_many = redis.call('XLEN', KEYS[1]) + count > tonumber(meta.max_events)
  if has_many or tail.bytes + added > tonumber(meta.max_bytes) then return answer(-9) end
end

local set = {}
local function put(name, value) set[#set + 1], set[#set + 2] = name, value end
local keys = {log = KEYS[1], live = KEYS[3]}
local epoch, content_seq, last_seq = add_durable(keys, tail, events, ending, ARGV[6], ARGV[4])
put('last_id', digits(epoch) .. '-' .. digits(last_seq))
if count > 0 then
  tail_epoch, tail_seq = digits(epoch), digits(content_seq)
  put('durable_tail', tail_epoch .. '-' .. tail_seq)
  put('tokens', string.format('%.3f', tokens))
  put('tokens_ms', digits(now_ms))
end
if ending ~= '' then
  put('status', status)
  put('ended_ms', digits(now_ms))
  put('terminal', ending)
  put('terminal_id', digits(epoch) .. '-' .. digits(last_seq))
  put('durable_closer', closer)
  meta.status = status
end
if ARGV[7] ~= '' then put('durable_seq', ARGV[7]) end
if producer ~= '' and not known_epoch then put('producers', digits(tonumber(meta.producers or 0) + 1)) end
redis.call('HSET', KEYS[2], unpack(set))
if producer ~= '' then
  known_epoch, known_seq = producer_epoch, producer_seq
  redis.call('HSET', KEYS[4], producer, string.format('%.0f %.0f', producer_epoch, producer_seq))
end
local kept_ms = ending ~= '' and meta.retention_ms or ARGV[3]
keep_durable(KEYS[1], KEYS[2], KEYS[4], meta.ttl_s, meta.expires_ms, now_ms, kept_ms)
return answer(1)
