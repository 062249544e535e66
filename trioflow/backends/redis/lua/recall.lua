-- include: base activities
-- Give a worker again what it holds. ARGV: nonce, again, source, worker, activities that it knows.

local worker = ARGV[4]
local held = redis.call('ZRANGEBYSCORE', P .. 'held:' .. worker, '(' .. exact(now), '+inf')
for _, id in ipairs(held) do
  zadd('held:' .. worker, now, id)
end
local known = {}
for _, key in ipairs(cmsgpack.unpack(ARGV[5])) do
  known[token_of(key.instance, key.execution, key.command)] = true
end
local tokens = redis.call('SMEMBERS', P .. 'running:' .. worker)
for _, token in ipairs(tokens) do
  if not known[token] then
    local id, execution, command = parse_token(token)
    offer_activity(id, execution, command, load_activity(id, execution, command), now)
  end
end
flush()
if #held + #tokens > 0 then
  publish(ARGV[3])
end
return 1
