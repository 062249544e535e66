-- include: base fenced activities instances
-- Put an event into an inbox. ARGV: nonce, again, source, instance, event, life (see `is_meant`),
-- for a cancel what `end_unstarted` wants, or '', a request's id or ''. Returns an Effect.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local id = ARGV[4]
local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'life')
if not row[1] then
  return 'not found'
end
local message = { event = ARGV[5] }
if ARGV[7] ~= '' then
  message.unstarted = cmsgpack.unpack(ARGV[7])
end
if not is_meant(row[2], ARGV[6]) then
  return 'finished'
end
local life, request = row[2] or '', ARGV[8]
if has_request(id, life, request) then
  return 'unchanged'
end
if not deliver(id, message) then
  return 'finished'
end
keep_request(id, life, request)
flush()
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
