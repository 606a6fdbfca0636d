-- Sends the ultrasound images of each study to the node once the study is stable, each image once.
--
-- What was sent bears a mark. Results come back with other SOP classes, so they are never sent, and
-- the study that is stable again because of them has nothing left to send: there is no loop.
-- What could not be sent waits for the next stable study, for a restart, and, with an Orthanc that
-- has a heartbeat (LuaHeartBeatPeriod), for that.

local NODE = 'DICOM_NODE' -- its name under DicomModalities
local MARK = 'SentToDicomNode' -- its name under UserMetadata

-- At start so many of the last changes are looked through for studies that still have to be sent:
-- Orthanc does not tell again that a study is stable when it was stopped before.
local RECENT_CHANGES = 10000

local ULTRASOUND = {
   ['1.2.840.10008.5.1.4.1.1.6.1'] = true, -- Ultrasound Image Storage
   ['1.2.840.10008.5.1.4.1.1.3.1'] = true, -- Ultrasound Multi-frame Image Storage
   ['1.2.840.10008.5.1.4.1.1.6'] = true, -- Ultrasound Image Storage (Retired)
   ['1.2.840.10008.5.1.4.1.1.3'] = true, -- Ultrasound Multi-frame Image Storage (Retired)
   ['1.2.840.10008.5.1.4.1.1.6.2'] = true, -- Enhanced US Volume Storage
}

local waiting = {} -- study -> whether sending it has failed before
local jobs = {} -- job that runs -> its study and images

local function get(uri)
   local answer = RestApiGet(uri)
   return answer and ParseJson(answer)
end

local function unsent_images(study)
   local images = {}
   for _, instance in ipairs(get('/studies/' .. study .. '/instances') or {}) do
      local told = get('/instances/' .. instance['ID'] .. '/metadata?expand') or {}
      if ULTRASOUND[told['SopClassUid']] and not told[MARK] then
         table.insert(images, instance['ID'])
      end
   end
   return images
end

local function is_there()
   return RestApiPost('/modalities/' .. NODE .. '/echo', '{}') ~= nil
end

local function is_being_sent(study)
   for _, job in pairs(jobs) do
      if job.study == study then
         return true
      end
   end
   return false
end

local function order(study, images)
   -- not Permissive: such a job succeeds also when nobody was there
   local body = DumpJson({ Resources = images, Synchronous = false }, true)
   local job = RestApiPost('/modalities/' .. NODE .. '/store', body)
   if job then
      jobs[ParseJson(job)['ID']] = { study = study, images = images }
   end
end

local function send(study)
   local images = unsent_images(study)
   if #images == 0 then
      waiting[study] = nil
   elseif not waiting[study] then
      order(study, images)
   else
      for _, image in ipairs(images) do -- one that is refused holds up no other
         order(study, { image })
      end
   end
end

local function send_all()
   local studies, has_failed = {}, false
   for study, failed in pairs(waiting) do
      table.insert(studies, study)
      has_failed = has_failed or failed
   end
   if has_failed and not is_there() then
      return
   end
   for _, study in ipairs(studies) do
      if not is_being_sent(study) then
         send(study)
      end
   end
end

local function remember(study)
   waiting[study] = waiting[study] or false
end

function OnStableStudy(study)
   remember(study)
   send_all()
end

function OnHeartBeat()
   send_all()
end

function OnJobSuccess(id)
   local job = jobs[id]
   if not job then
      return -- somebody else's
   end
   jobs[id] = nil
   for _, image in ipairs(job.images) do
      RestApiPut('/instances/' .. image .. '/metadata/' .. MARK, 'yes')
   end
end

function OnJobFailure(id)
   local job = jobs[id]
   if job then
      jobs[id] = nil
      waiting[job.study] = true
   end
end

function Initialize()
   local last = get('/changes?last')['Last']
   local from = math.max(0, last - RECENT_CHANGES)
   local done = false
   while not done do
      local page = get('/changes?limit=1000&since=' .. from)
      for _, change in ipairs(page['Changes']) do
         if change['ChangeType'] == 'NewStudy' then
            remember(change['ID'])
         elseif change['ChangeType'] == 'NewInstance' then
            local study = get('/instances/' .. change['ID'] .. '/study')
            if study then
               remember(study['ID'])
            end
         end
      end
      from, done = page['Last'], page['Done']
   end
   send_all()
end
