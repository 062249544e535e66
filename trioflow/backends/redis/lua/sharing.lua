-- What instances share: claims in the order of asking, and which events are set.
--   claims:<name>     the claims by their numbers; each is named as an activity is, see `token_of`
--   claim:<name>      claim -> instance, execution, life, size, event, and whether it is granted; packed
--   claims-of:<id>    the names of what an instance may have claims of
--   shared            name -> '1', of events that are set
-- A claim is good for one execution: that it has ended shows in the row of its instance.

local function drop_claim(name, token)
  redis.call('ZREM', P .. 'claims:' .. name, token)
  redis.call('HDEL', P .. 'claim:' .. name, token)
end

local function is_usable(claim)
  local row = redis.call('HMGET', P .. 'i:' .. claim[1], 'status', 'execution', 'life')
  return row[1] and is_open(row[1]) and tonumber(row[2]) == claim[2] and (row[3] or '') == claim[3]
end

-- Grant what can be granted, in the order of asking. What was gathered must have been flushed.
local function grant_shared(name)
  local is_set = redis.call('HEXISTS', P .. 'shared', name) == 1
  local waiting, held = {}, 0
  for _, token in ipairs(redis.call('ZRANGE', P .. 'claims:' .. name, 0, -1)) do
    local claim = cmsgpack.unpack(redis.call('HGET', P .. 'claim:' .. name, token))
    if not is_usable(claim) then
      drop_claim(name, token)
    elseif claim[6] then
      held = held + 1
    else
      waiting[#waiting + 1] = { token, claim }
    end
  end
  for _, one in ipairs(waiting) do
    local token, claim = one[1], one[2]
    local size = claim[4]
    if size == 0 and not is_set or size > 0 and held >= size then
      break
    end
    deliver(claim[1], { execution = claim[2], life = claim[3], event = claim[5] })
    if size == 0 then
      drop_claim(name, token)
    else
      claim[6] = true
      held = held + 1
      redis.call('HSET', P .. 'claim:' .. name, token, cmsgpack.pack(claim))
    end
  end
  flush()
end

-- Do what the claim of a message asks for.
local function ask_shared(id, message)
  local claim, execution, life = message.claim, message.execution or 0, message.life or ''
  local name, token = claim.name, token_of(id, execution, claim.command, life)
  if claim.how == 'free' then
    drop_claim(name, token)
  elseif claim.how == 'take' then
    redis.call('ZADD', P .. 'claims:' .. name, next_number('message'), token)
    local packed = cmsgpack.pack({ id, execution, life, claim.size, message.event, false })
    redis.call('HSET', P .. 'claim:' .. name, token, packed)
    redis.call('SADD', P .. 'claims-of:' .. id, name)
  else
    if claim.how == 'set' then
      redis.call('HSET', P .. 'shared', name, '1')
    else
      redis.call('HDEL', P .. 'shared', name)
    end
    deliver(id, message)
  end
  flush()
  grant_shared(name)
end

-- Give to the next what instances had that have been ended.
local function free_shared(ids)
  for _, id in ipairs(ids) do
    local names = redis.call('SMEMBERS', P .. 'claims-of:' .. id)
    redis.call('DEL', P .. 'claims-of:' .. id)
    table.sort(names)
    for _, name in ipairs(names) do
      for _, packed in ipairs(redis.call('HVALS', P .. 'claim:' .. name)) do
        if cmsgpack.unpack(packed)[1] == id then
          grant_shared(name)
          break
        end
      end
    end
  end
end
