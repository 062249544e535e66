-- include: base fenced activities instances sharing ending
-- Put an event into the inbox of an instance, which is created first if there is none.
-- ARGV: nonce, again, source, a list of one new instance, event, a request's id or ''.
-- Returns: the life that is reached, 1 if it is the new one, 1 if the request was made before.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local new = cmsgpack.unpack(ARGV[4])[1]
local request = ARGV[6]
local id = new.id
local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'life')
local life, created = row[2] or '', 0
if row[1] and has_request(id, life, request) then
  return answer(ARGV[1], { life, 0, 1 })
end
if create_one(new, true) then
  life, created = new.life or '', 1
  flush()
end
deliver(id, { event = ARGV[5] })
keep_request(id, life, request)
flush()
publish(ARGV[3])
return answer(ARGV[1], { life, created, 0 })
